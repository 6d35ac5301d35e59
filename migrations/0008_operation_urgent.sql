-- What somebody waits for and takes moments goes on while operations are frozen: whoever starts it says so.
alter table operation add column urgent boolean not null default false;

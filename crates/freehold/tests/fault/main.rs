//! What breaks, and what is left of it: kills inside every step, failures of every class, servers and stores that go
//! away, processes that hang, clocks that jump. The real program, on real PostgreSQL.

mod again;
mod audit;
mod client;
mod clock;
mod control_store;
mod coverage;
mod disk;
mod dumped;
mod failures;
mod ghosts;
mod health;
mod imported;
mod inside;
mod kill;
mod leaders;
mod legacy;
mod moves;
mod picture;
mod points;
mod poolers;
mod probe;
mod quota;
mod railzway;
mod rig;
mod room;
mod rotation;
mod scenario;
mod server;
mod servers;
mod serving;
mod sides;
mod sweep;
mod two;
mod way;
mod writer;

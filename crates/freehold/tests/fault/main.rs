//! What breaks, and what is left of it: kills inside every step, failures of every class, servers and stores that go
//! away, processes that hang, clocks that jump. The real program, on real PostgreSQL.

mod clock;
mod control_store;
mod coverage;
mod disk;
mod failures;
mod kill;
mod leaders;
mod picture;
mod points;
mod railzway;
mod rig;
mod room;
mod scenario;
mod server;
mod serving;
mod two;

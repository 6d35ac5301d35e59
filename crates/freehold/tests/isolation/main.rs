//! The attacker's tests: a tenant with every right that it was given, and every trick, against its neighbours, its
//! server and Freehold. On 15 and 18, with an admin that is a superuser and with one that has CREATEDB and CREATEROLE.

mod collusion;
mod fuzz;
mod hostile;
mod issued;
mod leak;
mod neighbours;
mod payload;
mod rotation;
mod template;
mod tenant;
mod truth;
mod world;

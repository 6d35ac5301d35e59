//! One tenant moves between two real servers, by the verbs of `server::sql::moving`, in the order an operation says them:
//! `recipe.rs`. Absent: the operation, the pooler.

mod abort;
mod digest;
mod forward;
mod glance;
mod hostile;
mod recipe;
mod slots;
mod trouble;
mod weak;
mod world;
mod writer;

//! Where PostgreSQL and its companions run. Absent: which server is wanted where; that is the fleet's business.

pub mod process;

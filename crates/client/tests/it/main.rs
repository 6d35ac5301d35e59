//! One integration binary: the client against a server that hangs up, stammers and loses answers.

mod faults;
mod flaky;
mod streams;

//! Nomad, which cannot be installed here: the driver talks to a server of our own that knows Nomad's published API, refuses
//! what is not in it, and schedules as its documentation says. What this cannot show is how a real one behaves.

mod fake;
mod published;
mod stories;

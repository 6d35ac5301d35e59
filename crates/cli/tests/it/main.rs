//! One integration binary: commands run in-process against a server that answers as a test tells it to.

mod fake;
mod story_contexts;
mod story_failures;
mod story_shows;
mod story_waits;
mod story_watch;

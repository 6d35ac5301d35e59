//! The suite on containers of one Engine and on services of a Swarm, and what only these can do. `scripts/docker` has the
//! engine: its own, for tests alone. One test at a time (`.config/nextest.toml`): the suite's names are the engine's names.

mod https;
mod refusals;
mod registry;
mod runs;
mod storage;
mod world;

stories!(engine_15, super::world::Docker::engine(15));
stories!(swarm_15, super::world::Docker::swarm(15));

/// One test for each mode.
macro_rules! in_both_modes {
    ($($place:ident :: $story:ident),* $(,)?) => {
        in_both_modes!(@on engine, $($place::$story),*);
        in_both_modes!(@on swarm, $($place::$story),*);
    };
    (@on $mode:ident, $($place:ident :: $story:ident),*) => {
        mod $mode {
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $story() {
                    super::$place::$story(&super::world::Docker::$mode(15)).await;
                }
            )*
        }
    };
}

in_both_modes!(
    refusals::a_port_of_another_program_is_named,
    refusals::an_absent_image_is_named,
    refusals::what_is_not_freeholds_is_left_alone,
    refusals::a_helpers_name_that_is_somebody_elses_is_left_alone,
    refusals::an_image_of_another_version_is_refused,
    registry::an_image_by_digest_comes_from_a_registry_with_credentials,
    runs::limits_are_in_force_and_no_secret_is_in_a_definition,
    runs::another_generation_of_the_same_restarts_nothing,
    runs::want_of_memory_ends_one_session_and_is_told,
    runs::recovering_counts_as_alive,
    runs::a_restarted_engine_brings_its_servers_back,
    runs::a_network_is_joined_under_the_services_name,
    storage::a_directory_is_made_with_its_mode_and_purged_alone,
    storage::a_directory_of_another_freehold_is_neither_taken_nor_purged,
    storage::what_a_prepare_made_before_it_failed_is_purged,
    storage::a_storage_path_that_is_missing_is_named,
    storage::data_that_vanished_is_not_made_anew,
    storage::two_containers_never_share_the_data,
);

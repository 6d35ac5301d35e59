//! One suite, run on PgBouncer 1.18 and 1.24 in front of a real PostgreSQL; and PgCat's driver against its published console.

mod bench;
mod errors;
mod isolation;
mod life;
mod names;
mod pause;
mod pgcat;
mod reload;
mod rendered;
mod repair;
mod shared;
mod tls;

macro_rules! stories {
    ($($place:ident :: $story:ident),* $(,)?) => {
        stories!(@on pgbouncer_1_18, "1.18", $($place::$story),*);
        stories!(@on pgbouncer_1_24, "1.24", $($place::$story),*);
    };
    (@on $module:ident, $version:literal, $($place:ident :: $story:ident),*) => {
        mod $module {
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $story() {
                    crate::$place::$story($version).await;
                }
            )*
        }
    };
}

stories!(
    errors::what_stands_in_the_way_is_named,
    errors::a_pooler_that_does_not_run_finds_its_files_when_it_starts,
    isolation::logins_open_their_own_database_and_no_other,
    isolation::a_retired_login_is_refused_while_its_connections_are_warm,
    isolation::a_rotation_overlaps_two_logins,
    isolation::what_is_gone_is_refused_at_once,
    life::a_killed_pooler_comes_back_with_the_same_files,
    life::a_pooler_outlives_who_started_it,
    life::who_is_in_the_way_at_a_start_is_named,
    names::databases_and_roles_may_be_called_anything,
    names::a_name_is_never_mangled,
    pause::a_paused_database_makes_clients_wait_without_an_error,
    pause::a_pause_that_cannot_drain_is_given_up_and_names_who_held_it,
    pause::pauses_do_not_wait_for_each_other,
    reload::a_reload_under_load_fails_nothing,
    reload::reloads_are_counted_and_keep_their_pace,
    reload::what_a_pooler_does_is_counted,
    repair::an_older_generation_is_refused,
    repair::a_file_edited_by_hand_is_found_and_repaired,
    repair::a_broken_list_of_users_is_noticed,
    repair::what_cannot_be_verified_is_taken_back,
    shared::ours_come_and_go_and_theirs_stay,
    shared::what_happened_while_it_was_down_counts_from_its_start,
    shared::what_was_edited_is_put_right_and_what_is_theirs_is_not,
    shared::names_that_cannot_be_written_keep_nobody_else_out,
    shared::what_hinders_it_is_named_and_nothing_is_half_done,
    shared::access_rules_of_theirs_decide_who_gets_in,
    shared::wildcards_and_included_files_are_theirs_too,
    tls::clients_and_servers_are_spoken_to_over_tls,
);

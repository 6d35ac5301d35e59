//! One suite, run on every engine and with every kind of admin: the oldest and the newest PostgreSQL, a superuser
//! and a role with CREATEDB + CREATEROLE alone. An engine that is not installed fails by name.

mod activity;
mod adopt;
mod bench;
mod clusters;
mod hostile;
mod life;
mod movable;
mod sessions;
mod templates;
mod tls;
mod watch;

macro_rules! stories {
    ($($place:ident :: $story:ident),* $(,)?) => {
        stories!(@on pg15_superuser, Pg15, Superuser, $($place::$story),*);
        stories!(@on pg15_weak_admin, Pg15, Weak, $($place::$story),*);
        stories!(@on pg18_superuser, Pg18, Superuser, $($place::$story),*);
        stories!(@on pg18_weak_admin, Pg18, Weak, $($place::$story),*);
    };
    (@on $module:ident, $engine:ident, $power:ident, $($place:ident :: $story:ident),*) => {
        mod $module {
            use crate::bench::{Bench, Engine, Power};
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $story() {
                    let bench = Bench::start(Engine::$engine, Power::$power).await;
                    crate::$place::$story(&bench).await;
                    bench.cluster.stop().await;
                }
            )*
        }
    };
}

stories!(
    adopt::a_legacy_database_is_taken_over_whole,
    adopt::a_kept_login_works_on_as_the_owner,
    adopt::a_kept_login_is_refused_in_its_database_and_nowhere_else,
    adopt::a_legacy_database_is_given_back_as_it_was,
    adopt::a_superuser_of_before_enables_no_event_trigger,
    activity::sessions_are_seen_and_the_tenants_alone_are_ended,
    life::a_database_lives_its_whole_life_and_every_step_may_run_twice,
    life::names_that_need_quoting_or_are_not_ascii_work_everywhere,
    life::a_rotation_overlaps_two_logins_and_leaves_nothing_of_the_first,
    life::no_plain_password_reaches_the_log,
    life::an_admin_is_a_member_no_longer_than_it_must,
    life::facts_name_what_the_admin_cannot_do,
    hostile::neighbours_and_system_databases_refuse_a_tenant,
    hostile::a_login_cannot_raise_itself_but_can_do_its_work,
    hostile::a_login_that_altered_itself_is_restored,
    hostile::what_was_made_as_the_login_becomes_the_owners,
    hostile::the_note_is_never_written_into_a_tenants_trap,
    movable::a_zoo_is_told_by_name,
    movable::what_only_eighteen_has_is_told,
    movable::a_hostile_tenant_delays_nothing_and_runs_nothing,
    movable::a_server_tells_what_a_move_needs_of_it,
    sessions::resetting_falls_back_to_the_owner,
    sessions::a_refused_login_leaves_no_session_and_cannot_return,
    sessions::lower_epochs_are_fenced_and_others_left_alone,
    templates::a_frozen_template_is_copied_and_its_objects_change_hands,
    templates::extra_roles_read_or_write_what_comes_later,
    watch::vitals_are_what_goes_on,
    watch::counters_and_sizes_are_of_every_database,
    watch::a_visitor_gets_in_and_no_further,
);

//! Tenants behind a real PgBouncer: the agent's protocol with a plane that the test plays, and stories with the real one.

mod away;
mod begin;
mod bench;
mod budget;
mod clients;
mod crowd;
mod docker;
mod encrypted;
mod external;
mod fake;
mod hold;
mod killed;
mod many;
mod moves;
mod named;
mod pgbench;
mod plans;
mod platform;
mod rebalance;
mod rotation;
mod serve;
mod small_disk;
mod story;
mod under_load;

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
    away::a_pause_ends_by_its_deadline_while_the_store_is_away,
    budget::a_plan_above_the_budget_is_said,
    budget::as_many_as_there_are_connections_never_fail,
    budget::more_tenants_than_connections_take_turns,
    begin::both_sides_are_encrypted_where_certificates_are,
    clients::every_driver_gets_in_with_what_is_printed,
    crowd::who_works_notices_nothing_of_those_who_come_and_go,
    encrypted::poolers_of_a_platform_speak_tls_to_both_sides,
    encrypted::the_pooler_of_dev_speaks_tls_to_whoever_asks,
    external::tenants_come_and_go_also_while_it_is_down,
    external::a_pause_ends_by_its_deadline_while_a_plane_runs,
    external::a_full_or_locked_disk_is_named_and_hinders_no_create,
    hold::a_pause_holds_until_its_deadline_also_when_the_plane_is_dead,
    hold::a_pause_outlives_its_agent_and_its_pgbouncer,
    hold::a_pause_that_cannot_drain_names_who_held_it,
    hold::a_change_of_a_paused_entry_waits_for_its_end,
    killed::a_killed_pooler_is_noticed_by_its_own_tenants_alone,
    moves::a_move_outlives_its_pgbouncer,
    moves::a_suspended_tenant_moves_and_its_pooler_follows,
    moves::a_tenant_moves_and_comes_back_while_it_is_written_to,
    moves::a_tenant_moves_by_dump_while_its_clients_are_held,
    named::names_by_pattern_reload_once_and_plain_stock_never,
    plans::a_plan_is_changed_while_its_tenant_works,
    many::tenants_are_spread_over_poolers_and_all_are_served,
    platform::a_full_or_locked_disk_of_an_agent_hinders_no_create,
    platform::poolers_come_by_themselves_and_outlive_the_plane,
    platform::what_hangs_at_its_start_says_why,
    platform::what_cannot_be_started_says_why_and_is_tried_again,
    rebalance::sizes_of_three_servers_are_evened_out_while_tenants_write,
    rotation::a_leaked_credential_is_refused_by_the_pooler_at_once,
    rotation::names_that_alternate_and_passwords_that_are_replaced,
    rotation::nobody_who_works_notices_a_rotation,
    serve::what_the_plane_says_is_served_and_reported,
    serve::what_cannot_be_is_refused_and_what_runs_goes_on,
    serve::everything_dies_and_tenants_go_on,
    serve::a_file_edited_by_hand_is_repaired,
    story::a_pooler_that_is_down_catches_up,
    story::a_tenant_is_pooled_from_its_first_query,
    story::every_pair_of_tenants_stays_apart,
    story::suspended_resumed_and_purged,
    story::who_dies_costs_a_reconnect_at_most,
    under_load::pgbench_notices_nothing_of_a_rollback,
    under_load::pgbench_notices_nothing_of_many_moves,
);

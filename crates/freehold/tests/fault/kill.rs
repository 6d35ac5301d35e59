//! The kill test: SIGKILL at every fault point of every step, a restart, and then nothing may differ from a run that
//! was not killed. In the normal run a sample, in a soak all of them.

use crate::coverage;
use crate::picture::{difference, same};
use crate::points::{self, Point, TRACE, passed};
use crate::rig::Rig;
use crate::scenario::Scenario;
use crate::serving::Serve;

/// What a scenario passes when nothing breaks, and on the way back of each of its kinds.
pub struct Map {
    pub forward: Vec<Point>,
    /// The fault that begins the way back of a kind, how that ends, and the points on it.
    pub back: Vec<Back>,
}

pub struct Back {
    failing: String,
    reference: Reference,
    pub points: Vec<Point>,
}

/// The steps that the forward run took, in order, of one kind.
pub fn steps_of(points: &[Point], kind: &str) -> Vec<String> {
    let mut steps: Vec<String> = Vec::new();
    for point in points.iter().filter(|point| point.kind == kind) {
        if !steps.contains(&point.step) {
            steps.push(point.step.clone());
        }
    }
    steps
}

/// One scenario in one rig, run again and again.
pub struct Runs {
    pub scenario: Scenario,
    pub rig: Rig,
    number: usize,
}

pub struct Reference {
    pub before: crate::picture::Picture,
    pub after: crate::picture::Picture,
    pub output: String,
}

impl Runs {
    pub async fn new(scenario: Scenario) -> Self {
        let (rig, mut serve) = scenario.rig().await;
        serve.kill().await;
        rig.let_leases_run_out().await;
        Self { scenario, rig, number: 0 }
    }

    /// Prepares, runs, takes the picture, sees that the tenant gets in, cleans up.
    pub async fn one(&mut self, faults: &str, dies: bool) -> Reference {
        let (id, number) = self.next();
        let mut serve = self.rig.serve("").await;
        self.scenario.prepare(&self.rig, &serve, &id).await;
        self.end(&mut serve).await;
        let since = self.rig.since().await;
        let before = self.rig.picture(&since, &id).await;
        let mut run = self.scenario.run(&self.rig, faults, dies, &id, number).await;
        let (_, tenant) = run.serve.get(&format!("/v1/tenants/{id}")).await;
        let enters = self.rig.logs_in(&run.serve, &id).await;
        assert_eq!(enters.is_ok(), tenant["state"] == "active", "{faults}: {tenant}: {enters:?}");
        let maintained = self.rig.is_maintained(&run.serve, &id).await;
        assert_eq!(maintained.is_ok(), tenant["state"] == "active", "{faults}: {tenant}: {maintained:?}");
        self.scenario.clean(&self.rig, &mut run.serve, &id).await;
        self.end(&mut run.serve).await;
        Reference { before, after: run.picture, output: run.output }
    }

    pub fn next(&mut self) -> (String, usize) {
        self.number += 1;
        (format!("t-{:04}", self.number), self.number)
    }

    /// It is killed while it does nothing: that loses nothing either.
    pub async fn end(&self, serve: &mut Serve) {
        serve.kill().await;
        self.rig.let_leases_run_out().await;
    }

    pub async fn map(&mut self) -> (Map, Reference) {
        // The first run settles what only the first does.
        let reference = self.one(TRACE, false).await;
        let forward = passed(&reference.output, self.scenario.kinds());
        let mut back = Vec::new();
        for kind in self.scenario.kinds() {
            let steps = steps_of(&forward, kind);
            let broken = self.scenario.breaks_at(&steps);
            let broken = broken.unwrap_or_else(|| panic!("{:?} runs no {kind}:\n{}", self.scenario, reference.output));
            let failing = format!("{kind}/{broken}/after=permanent*1");
            let undone = self.one(&format!("{failing},{TRACE}"), false).await;
            let points = passed(&undone.output, &[kind]).into_iter().filter(|point| !steps.contains(&point.step));
            let points = points.collect();
            let about = *kind == self.scenario.kinds()[0] && self.scenario != Scenario::Version;
            let changes = [
                Scenario::Purge,
                Scenario::Register,
                Scenario::Forget,
                Scenario::RotateAtOnce,
                Scenario::Retire,
                Scenario::MoveUnfollowed,
                Scenario::MoveRedone,
                Scenario::MoveFinished,
                Scenario::MoveAbandoned,
                Scenario::Drain,
                Scenario::Rebalance,
                // An extension that it made stays.
                Scenario::Plan,
            ]
            .contains(&self.scenario);
            if about && !changes {
                same(&format!("{kind} was undone, and left"), &undone.before.server, &undone.after.server);
            }
            back.push(Back { failing, reference: undone, points });
        }
        (Map { forward, back }, reference)
    }

    async fn kill_at_all(&mut self, forward: usize, back: usize) {
        let (map, reference) = self.map().await;
        if coverage::compared(self.scenario, &map) {
            return;
        }
        let mut wrong = Vec::new();
        for point in points::sample(&map.forward, forward) {
            let run = self.one(&format!("{point}=kill*1"), true).await;
            wrong.extend(differs(&point, &reference, &run));
        }
        let of_kinds =
            map.back.iter().enumerate().flat_map(|(kind, back)| back.points.iter().map(move |point| (kind, point)));
        for (kind, point) in points::sample(&of_kinds.collect::<Vec<_>>(), back) {
            let Back { failing, reference, .. } = &map.back[kind];
            let run = self.one(&format!("{failing},{point}=kill*1"), true).await;
            wrong.extend(differs(point, reference, &run));
        }
        assert!(wrong.is_empty(), "{:?}:\n{}", self.scenario, wrong.join("\n"));
    }
}

fn differs(point: &Point, expected: &Reference, found: &Reference) -> Option<String> {
    let lines: Vec<String> =
        [(&expected.after.server, &found.after.server), (&expected.after.store, &found.after.store)]
            .into_iter()
            .filter_map(|(expected, found)| difference(expected, found))
            .collect();
    (!lines.is_empty()).then(|| format!("killed at {point}:\n{}", lines.join("\n")))
}

macro_rules! kill_tests {
    ($($name:ident: $scenario:ident, $forward:literal, $back:literal;)+) => {$(
        #[tokio::test]
        async fn $name() {
            Runs::new(Scenario::$scenario).await.kill_at_all($forward, $back).await;
        }
    )+};
}

kill_tests! {
    kill_tenant_create_without_stock: Made, 4, 2;
    kill_tenant_create_from_stock_and_stock_build: FromStock, 6, 2;
    kill_tenant_suspend: Suspend, 2, 1;
    kill_tenant_suspend_with_a_login_of_before: SuspendKept, 3, 1;
    kill_tenant_resume: Resume, 2, 1;
    kill_tenant_delete: Delete, 2, 1;
    kill_tenant_undelete: Undelete, 2, 1;
    kill_tenant_purge: Purge, 3, 1;
    kill_tenant_rotate: Rotate, 4, 2;
    kill_tenant_rotate_at_once: RotateAtOnce, 5, 1;
    kill_tenant_rotate_in_place: RotateInPlace, 3, 0;
    kill_tenant_retire_login: Retire, 3, 0;
    kill_template_build_retire_and_stock_drop: Version, 5, 2;
    kill_server_register: Register, 2, 1;
    kill_server_register_of_one_that_is_registered: AddAgain, 1, 0;
    kill_server_check: Check, 1, 1;
    kill_server_provision: Grow, 3, 2;
    kill_tenant_create_that_waits_for_a_server: WaitForRoom, 3, 1;
    kill_server_update: UpdateServer, 3, 2;
    kill_server_remove: RemoveServer, 2, 1;
    kill_server_remove_with_its_data: RemoveWithData, 2, 1;
    kill_server_purge: PurgeServer, 1, 1;
    kill_server_remove_of_one_that_was_registered: Forget, 2, 1;
    kill_tenant_sessions: Sessions, 1, 0;
    kill_tenant_diagnose: Diagnose, 1, 0;
    kill_tenant_movability: Movability, 1, 0;
    kill_tenant_adopt_check: AdoptCheck, 1, 0;
    kill_tenant_adopt: Adopt, 4, 2;
    kill_tenant_import_check: ImportCheck, 1, 0;
    kill_tenant_import: Import, 6, 2;
    kill_tenant_terminate_sessions: Terminate, 2, 0;
    kill_tenant_move: Move, 3, 2;
    kill_tenant_move_after_it_is_there: MoveUnfollowed, 1, 1;
    kill_tenant_move_by_dump: MoveByDump, 4, 2;
    kill_tenant_move_of_a_changing_schema: MoveRedone, 1, 1;
    kill_tenant_move_back: MoveBack, 3, 1;
    kill_tenant_move_finish: MoveFinished, 3, 0;
    kill_tenant_move_finish_without_the_former_server: MoveAbandoned, 3, 0;
    kill_server_drain: Drain, 5, 0;
    kill_server_drain_check: DrainCheck, 1, 0;
    kill_server_rebalance: Rebalance, 4, 0;
    kill_tenant_plan: Plan, 3, 2;
    kill_tenant_plan_that_moves: PlanMoved, 3, 2;
    kill_tenant_plan_that_moved_back: PlanMovedBack, 2, 1;
    kill_pooler_start: StartPooler, 4, 2;
    kill_pooler_remove: RemovePooler, 2, 1;
}

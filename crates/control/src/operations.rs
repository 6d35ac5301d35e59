//! The table of contents of durable work: every kind of operation. There is no other place to add one.

use freehold_durable::Builder;

use crate::plane::Core;
use crate::pooler::managed::{remove::Remove as RemovePooler, start::Start as StartPooler};
use crate::schema::{build::Build, retire::Retire};
use crate::server::drain::{Drain, check::CheckDrain};
use crate::server::provision::Provision as ProvisionServer;
use crate::server::rebalance::Rebalance;
use crate::server::remove::{Purge as PurgeServer, Remove};
use crate::server::{check::Check, register::Register, update::Update};
use crate::stock::{build::BuildStock, drop::DropStock};
use crate::tenant::adopt::{inspect::Inspect, take::Adopt};
use crate::tenant::credential::{retire::RetireLogin, rotate::Rotate};
use crate::tenant::delete::{Deleting, Undeleting};
use crate::tenant::diagnose::Diagnose;
use crate::tenant::import::{check::CheckImport, run::Import};
use crate::tenant::movability::JudgeMove;
use crate::tenant::moving::{Move, finish::FinishMove, rollback::RollBack};
use crate::tenant::plan::set::SetPlan;
use crate::tenant::provision::Provision;
use crate::tenant::purge::Purge;
use crate::tenant::sessions::{Look, Terminate};
use crate::tenant::suspend::{Resuming, Suspending};
use crate::tenant::turn::Turning;

pub fn register(engine: Builder, core: &Core) -> Builder {
    let core = || core.clone();
    engine
        .register(Provision { core: core() })
        .register(Turning::<Suspending>::new(core()))
        .register(Turning::<Resuming>::new(core()))
        .register(Turning::<Deleting>::new(core()))
        .register(Turning::<Undeleting>::new(core()))
        .register(Purge { core: core() })
        .register(Rotate { core: core() })
        .register(RetireLogin { core: core() })
        .register(Adopt { core: core() })
        .register(Inspect { core: core() })
        .register(Import { core: core() })
        .register(CheckImport { core: core() })
        .register(Diagnose { core: core() })
        .register(JudgeMove { core: core() })
        .register(Move { core: core() })
        .register(RollBack { core: core() })
        .register(FinishMove { core: core() })
        .register(SetPlan { core: core() })
        .register(Look { core: core() })
        .register(Terminate { core: core() })
        .register(BuildStock { core: core() })
        .register(DropStock { core: core() })
        .register(Build { core: core() })
        .register(Retire { core: core() })
        .register(Register { core: core() })
        .register(Check { core: core() })
        .register(Drain { core: core() })
        .register(CheckDrain { core: core() })
        .register(Rebalance { core: core() })
        .register(ProvisionServer { core: core() })
        .register(Update { core: core() })
        .register(Remove { core: core() })
        .register(PurgeServer { core: core() })
        .register(StartPooler { core: core() })
        .register(RemovePooler { core: core() })
}

//! The table of contents of durable work: every kind of operation. There is no other place to add one.

use freehold_durable::Builder;

use crate::plane::Core;
use crate::schema::{build::Build, retire::Retire};
use crate::server::{check::Check, register::Register};
use crate::stock::{build::BuildStock, drop::DropStock};
use crate::tenant::delete::{Delete, Undelete};
use crate::tenant::provision::Provision;
use crate::tenant::purge::Purge;
use crate::tenant::suspend::{Resume, Suspend};

pub fn register(engine: Builder, core: &Core) -> Builder {
    let core = || core.clone();
    engine
        .register(Provision { core: core() })
        .register(Suspend { core: core() })
        .register(Resume { core: core() })
        .register(Delete { core: core() })
        .register(Undelete { core: core() })
        .register(Purge { core: core() })
        .register(BuildStock { core: core() })
        .register(DropStock { core: core() })
        .register(Build { core: core() })
        .register(Retire { core: core() })
        .register(Register { core: core() })
        .register(Check { core: core() })
}

//! Who may speak for a pooler: its agent. The key that Freehold made for one opens that one alone.

use freehold_api::id::PoolerId;
use freehold_api::problem::Code;

use super::{list, store};
use crate::http::access::Caller;
use crate::http::problem::Refused;
use crate::plane::{Answer, Core};

pub async fn require(core: &Core, caller: &Caller, id: &PoolerId) -> Answer<()> {
    let voice = store::voice(&core.store, id.as_str(), caller.key.0).await?.ok_or_else(|| list::not_found(id))?;
    let refused = |why: String| Err(Refused::new(Code::Denied, why));
    if voice.is_external {
        return refused(format!("pooler {id} is external: it has no agent, and the control plane alone speaks for it"));
    }
    if voice.is_of_another || !voice.is_own {
        return refused(format!("this key is not that of pooler {id}'s agent; Freehold made one for it alone"));
    }
    Ok(())
}

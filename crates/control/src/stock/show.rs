//! How much stock there is, and how much there should be.

use freehold_api::status::StockLevel;

use super::store;
use crate::plane::Core;

/// One line per active shared server and stocked template.
pub async fn levels(core: &Core) -> sqlx::Result<Vec<StockLevel>> {
    let found = store::levels(&core.store).await?;
    let fleet = core.fleet.rows(&core.store).await?;
    let templates = core.catalog.all(&core.store).await?;
    let mut levels = Vec::new();
    for server in fleet.iter().filter(|server| server.row.state == "active" && server.row.kind == "shared") {
        let Ok(id) = server.row.id.parse::<freehold_api::ServerId>() else { continue };
        for (template, stocked) in templates.values() {
            let wanted = if *stocked { core.settings.stock_of(template.name.as_str()) } else { 0 };
            let here = found.iter().filter(|level| {
                level.server_id == server.row.id
                    && level.template == template.name.as_str()
                    && level.template_version == template.version
            });
            let (ready, building) = here.fold((0, 0), |(ready, building), level| {
                (ready + level.ready, building + level.building + level.pooling)
            });
            if wanted > 0 || ready + building > 0 {
                levels.push(StockLevel {
                    server: id.clone(),
                    template: template.name.clone(),
                    ready: u32::try_from(ready).unwrap_or(0),
                    building: u32::try_from(building).unwrap_or(0),
                    wanted,
                });
            }
        }
    }
    Ok(levels)
}

//! Gives a database back as it was: the same steps the other way, each of which finds what there is to do.

use std::collections::BTreeMap;

use super::Former;
use super::objects::Object;
use crate::server::sql::admin::Admin;
use crate::server::sql::error::SqlError;
use crate::server::sql::quote::ident;

const OUR_SCHEMA: &str = "select 1 from pg_namespace n join pg_roles r on r.oid = n.nspowner \
    where n.nspname = 'freehold' and (r.rolname = current_user or r.rolsuper)";

impl Admin {
    /// On a connection in the database: what the new owner has becomes its former owners' again; what was made since
    /// becomes the database's former owner's. The admin's schema goes, if it is the admin's.
    pub async fn give_back_objects(&self, former: &Former, owner: &str) -> Result<(), SqlError> {
        self.quiet_event_triggers(&former.event_triggers).await?;
        let before: BTreeMap<(&str, u32), &str> =
            former.objects.iter().map(|object| ((object.class.as_str(), object.oid), object.owner.as_str())).collect();
        // Twice: before 17 a multirange does not follow its range, and is found when the two have different owners.
        for _ in 0..2 {
            let mut back: BTreeMap<&str, Vec<Object>> = BTreeMap::new();
            for found in self.owned_objects().await?.into_iter().filter(|found| found.owner == owner) {
                let was = before.get(&(found.class.as_str(), found.oid)).copied();
                back.entry(was.unwrap_or(&former.owner)).or_default().push(found);
            }
            self.give_back_to(&back).await?;
        }
        let mut sql = Vec::new();
        // A database that has somebody else's is not adopted; a ghost keeps its own.
        if !former.had_note && self.exists("look for the schema freehold", OUR_SCHEMA, &[]).await? {
            sql.push("DROP SCHEMA freehold CASCADE".to_owned());
        }
        if self.role_exists(owner).await? {
            // What has no place in the list, an extension for one. The role was made for this database and owns nothing
            // elsewhere. Then its default privileges and the grants to it.
            let heir = if self.role_exists(&former.owner).await? { &former.owner } else { &self.user };
            sql.push(format!("REASSIGN OWNED BY {} TO {}", ident(owner), ident(heir)));
            sql.push(format!("DROP OWNED BY {}", ident(owner)));
        }
        self.run_all(format!("give what is in {} back", self.database()), &sql).await?;
        self.wake_event_triggers(former).await
    }

    async fn give_back_to(&self, back: &BTreeMap<&str, Vec<Object>>) -> Result<(), SqlError> {
        // Schemas first: whoever is given a thing must be allowed to create where it is.
        for schemas in [true, false] {
            for (role, objects) in back {
                if self.role_exists(role).await? {
                    let turn: Vec<&Object> =
                        objects.iter().filter(|object| (object.class == "pg_namespace") == schemas).collect();
                    self.give_objects(&turn, role).await?;
                }
            }
        }
        Ok(())
    }

    async fn wake_event_triggers(&self, former: &Former) -> Result<(), SqlError> {
        let owners: Vec<String> = former.event_triggers.iter().map(|trigger| trigger.owner.clone()).collect();
        let owners = self.owner_facts(&owners).await?;
        let mut sql = Vec::new();
        for found in self.event_triggers().await? {
            let Some(was) = former.event_triggers.iter().find(|was| was.name == found.name) else { continue };
            let name = ident(&was.name);
            // PostgreSQL lets superusers alone own one: what was another's stays the admin's.
            if was.owner != found.owner && owners.iter().any(|owner| owner.name == was.owner && owner.superuser) {
                sql.push(format!("ALTER EVENT TRIGGER {name} OWNER TO {}", ident(&was.owner)));
            }
            match was.enabled.as_str() {
                "D" => {}
                "R" => sql.push(format!("ALTER EVENT TRIGGER {name} ENABLE REPLICA")),
                "A" => sql.push(format!("ALTER EVENT TRIGGER {name} ENABLE ALWAYS")),
                _ => sql.push(format!("ALTER EVENT TRIGGER {name} ENABLE")),
            }
        }
        self.run_all(format!("enable the event triggers of {}", self.database()), &sql).await
    }

    /// From another database: its owner and who may come in, as they were. Before what is in it: who owns the database may
    /// create in `public`, and has to, to be given what is there.
    pub async fn reopen_database(
        &self,
        database: &str,
        former: &Former,
        owner: &str,
        kept: &[String],
    ) -> Result<(), SqlError> {
        let name = ident(database);
        let mut sql = vec!["SET LOCAL lock_timeout = '5s'".to_owned()];
        let roles: Vec<&str> = kept.iter().map(String::as_str).chain([owner]).collect();
        let there = self.existing_roles(&roles).await?;
        let has = |role: &str| there.iter().any(|there| there == role);
        if has(owner) {
            sql.push(format!("REVOKE ALL ON DATABASE {name} FROM {} CASCADE", ident(owner)));
            sql.extend(
                kept.iter()
                    .filter(|login| has(login))
                    .map(|login| format!("REVOKE {} FROM {}", ident(owner), ident(login))),
            );
        }
        sql.extend(
            kept.iter()
                .filter(|login| has(login))
                .map(|login| format!("ALTER ROLE {} IN DATABASE {name} RESET role", ident(login))),
        );
        sql.push(format!("ALTER DATABASE {name} OWNER TO {}", ident(&former.owner)));
        sql.push(format!("REVOKE ALL ON DATABASE {name} FROM PUBLIC"));
        for grant in &former.connect {
            let grantee = if grant.grantee.is_empty() { "PUBLIC".to_owned() } else { ident(&grant.grantee) };
            let option = if grant.grantable { " WITH GRANT OPTION" } else { "" };
            sql.push(format!("GRANT {} ON DATABASE {name} TO {grantee}{option}", grant.privilege));
        }
        self.run_all(format!("give database {database} back"), &sql).await
    }
}

//! Secrets, connections, tables and views: created, replaced and dropped, by SQL and REST alike. Each function is called
//! with `changing` held, and changes the database and then the catalogue, or nothing.

use std::sync::Arc;

use laminar_core::connector::Role;
use laminar_core::options::Secret;
use laminar_core::{Code, Error, Result};
use laminar_metastore::{CatalogObject, NewObject, ObjectKind as Stored};
use laminar_planner::catalog::{ConnectionDef, ObjectRef, TableDef};
use laminar_planner::statement::{
    CreateConnection, CreateSecret, CreateTable, CreateView, Name, ObjectKind, OnExisting,
};

use crate::System;
use crate::catalog::Catalog;
use crate::lifecycle::{duplicate, in_use};
use crate::outcome::Notice;

/// What came of a CREATE.
pub(crate) enum Made {
    Created,
    Replaced,
    /// It was there before, and `IF NOT EXISTS` kept it.
    Kept,
}

impl System {
    pub(crate) async fn create_secret(&self, create: &CreateSecret, sql: &str) -> Result<(Made, Vec<Notice>)> {
        let catalog = self.catalog();
        let object = ObjectRef::new(ObjectKind::Secret, &create.name.value);
        let value = Secret::new(&create.value);
        let new = new_object(&catalog, &object, serde_json::Value::Null, sql, Some(value.clone()), vec![]);
        self.store_object(&catalog, &create.name, object, create.on_existing, new, Some(value)).await
    }

    pub(crate) async fn create_connection_def(
        &self,
        create: &CreateConnection,
        sql: &str,
    ) -> Result<(Made, Vec<Notice>)> {
        let catalog = self.catalog();
        let object = ObjectRef::new(ObjectKind::Connection, &create.name.value);
        if create.on_existing == OnExisting::Keep && catalog.contains(&object) {
            return Ok((Made::Kept, kept(&object)));
        }
        let def = self.planner.check_connection(create, &self.values(&catalog))?;
        if create.on_existing == OnExisting::Replace {
            self.refuse_unfit(&catalog, &create.name, &def)?;
        }
        let uses = def.depends_on().into_iter().collect();
        let new = new_object(&catalog, &object, json(&def)?, sql, None, uses);
        self.store_object(&catalog, &create.name, object, create.on_existing, new, None).await
    }

    /// Checks the table against the outside world too.
    pub(crate) async fn create_table_def(&self, create: &CreateTable, sql: &str) -> Result<(Made, Vec<Notice>)> {
        let catalog = self.catalog();
        let object = ObjectRef::new(ObjectKind::Table, &create.name.value);
        if create.on_existing == OnExisting::Keep && catalog.contains(&object) {
            return Ok((Made::Kept, kept(&object)));
        }
        self.refuse_taken(&catalog, &create.name, &object, create.on_existing)?;
        let values = self.values(&catalog);
        let create = &self.planner.with_outside_columns(&catalog.snapshot, create, &values).await?;
        let def = self.planner.check_table(&catalog.snapshot, create, &values)?;
        let checked = self.planner.check_outside(&catalog.snapshot, &def, &values).await;
        checked.map_err(|error| at_option_or_name(error, create))?;
        if create.on_existing == OnExisting::Replace {
            self.refuse_new_columns(&catalog, &create.name, &object, &def)?;
        }
        let uses = def.depends_on().into_iter().collect();
        let new = new_object(&catalog, &object, json(&def)?, sql, None, uses);
        self.store_object(&catalog, &create.name, object, create.on_existing, new, None).await
    }

    pub(crate) async fn create_view_def(&self, create: &CreateView, sql: &str) -> Result<(Made, Vec<Notice>)> {
        let catalog = self.catalog();
        let object = ObjectRef::new(ObjectKind::View, &create.name.value);
        if create.on_existing == OnExisting::Keep && catalog.contains(&object) {
            return Ok((Made::Kept, kept(&object)));
        }
        self.refuse_taken(&catalog, &create.name, &object, create.on_existing)?;
        let def = self.planner.check_view(&catalog.snapshot, create)?;
        let users = catalog.users(&object);
        if create.on_existing == OnExisting::Replace && !users.is_empty() {
            return Err(in_use(&create.name, ObjectKind::View, &users));
        }
        let uses = def.depends_on.iter().cloned().collect();
        let new = new_object(&catalog, &object, json(&def)?, sql, None, uses);
        self.store_object(&catalog, &create.name, object, create.on_existing, new, None).await
    }

    /// Errors: `in_use`, naming the users. `false`: there is none, and `IF EXISTS` was said.
    pub(crate) async fn drop_object(&self, kind: ObjectKind, name: &Name, if_exists: bool) -> Result<bool> {
        let catalog = self.catalog();
        let object = ObjectRef::new(kind, &name.value);
        if !catalog.contains(&object) {
            return if if_exists { Ok(false) } else { Err(not_to_drop(&catalog, kind, name)) };
        }
        if let (ObjectKind::Pipeline, Some(pipeline)) = (kind, catalog.pipelines.get(&name.value)) {
            self.drop_pipeline(pipeline).await.map_err(|e| e.at(name.location))?;
            return Ok(true);
        }
        let users = catalog.users(&object);
        if !users.is_empty() {
            return Err(in_use(name, kind, &users));
        }
        self.config.metastore.drop_object(stored(kind)?, &name.value).await?;
        let mut without = (*catalog).clone();
        without.remove(&object);
        self.publish(without);
        Ok(true)
    }

    async fn store_object(
        &self,
        catalog: &Arc<Catalog>,
        name: &Name,
        object: ObjectRef,
        on_existing: OnExisting,
        new: Result<NewObject>,
        secret: Option<Secret>,
    ) -> Result<(Made, Vec<Notice>)> {
        if on_existing == OnExisting::Keep && catalog.contains(&object) {
            return Ok((Made::Kept, kept(&object)));
        }
        self.refuse_taken(catalog, name, &object, on_existing)?;
        let replaces = catalog.contains(&object);
        let stored: CatalogObject = match replaces {
            true => self.config.metastore.replace_object(new?).await?,
            false => self.config.metastore.create_object(new?).await?,
        };
        let mut with = (**catalog).clone();
        if let Some(secret) = secret {
            with.secrets.insert(object.name.clone(), secret);
        }
        with.put_object(stored)?;
        self.publish(with);
        if !replaces {
            return Ok((Made::Created, vec![]));
        }
        let running = self.running_users(catalog, &object);
        if running.is_empty() {
            return Ok((Made::Replaced, vec![]));
        }
        let message = format!("{} run with the old {object} until their next restart", running.join(", "));
        Ok((Made::Replaced, vec![Notice::new("restart_needed", message)]))
    }

    /// Errors: `duplicate_name`, unless the object may be replaced.
    fn refuse_taken(&self, catalog: &Catalog, name: &Name, object: &ObjectRef, on_existing: OnExisting) -> Result<()> {
        if catalog.contains(object) {
            return if on_existing == OnExisting::Fail { Err(duplicate(object.kind, name)) } else { Ok(()) };
        }
        let is_relation = matches!(object.kind, ObjectKind::Table | ObjectKind::View);
        match catalog.relation_kind(&name.value).filter(|_| is_relation) {
            Some(other) => Err(duplicate(other, name)),
            None => Ok(()),
        }
    }

    /// A table that is in use may get other options, not other columns.
    fn refuse_new_columns(&self, catalog: &Catalog, name: &Name, object: &ObjectRef, new: &TableDef) -> Result<()> {
        let users = catalog.users(object);
        let old = catalog.snapshot.tables.get(&object.name);
        let same = old.is_none_or(|old| old.columns == new.columns && old.role == new.role);
        if users.is_empty() || same {
            return Ok(());
        }
        let error = in_use(name, ObjectKind::Table, &users).with_detail("its columns or type would change");
        Err(match new.connector.as_str() {
            "kafka" if new.role == Some(Role::Source) => error.with_hint(
                "drop what uses it first; or create a table of another name with offset = 'group' and group_id = 'laminar-<pipeline id>', \
                 the id as system.pipelines shows it: a pipeline over that goes on where the old one stopped",
            ),
            _ => error.with_hint("drop what uses it first; or create a table of another name, and a pipeline that uses that"),
        })
    }

    /// A connection that is in use may get other options, as long as its tables still are what they were.
    ///
    /// Errors: `in_use` if it leads to another connector; what a table would be refused for.
    fn refuse_unfit(&self, catalog: &Arc<Catalog>, name: &Name, new: &ConnectionDef) -> Result<()> {
        let users = catalog.users(&ObjectRef::new(ObjectKind::Connection, &name.value));
        let old = catalog.snapshot.connections.get(&name.value);
        if !users.is_empty() && old.is_some_and(|old| old.connector != new.connector) {
            return Err(in_use(name, ObjectKind::Connection, &users).with_detail("its connector would change"));
        }
        let mut snapshot = catalog.snapshot.clone();
        snapshot.connections.insert(new.name.clone(), new.clone());
        let values = self.values(catalog);
        for table in users.iter().filter_map(|user| catalog.snapshot.tables.get(&user.name)) {
            self.planner.recheck_table(&snapshot, table, &values).map_err(|error| {
                let what = format!("table {} does not fit the new connection {}", table.name, new.name);
                let refused = Error::new(error.code(), what).with_detail(error.to_string()).at(name.location);
                match error.hint() {
                    Some(hint) => refused.with_hint(hint),
                    None => refused,
                }
            })?;
        }
        Ok(())
    }

    /// Names of running pipelines that use the object, directly or through others.
    fn running_users(&self, catalog: &Catalog, object: &ObjectRef) -> Vec<String> {
        let mut found = Vec::new();
        let mut open = vec![object.clone()];
        let mut seen = Vec::new();
        while let Some(object) = open.pop() {
            for user in catalog.users(&object) {
                if seen.contains(&user) {
                    continue;
                }
                seen.push(user.clone());
                match catalog.pipelines.get(&user.name).filter(|_| user.kind == ObjectKind::Pipeline) {
                    Some(pipeline) if self.is_active(&pipeline.id) => found.push(user.to_string()),
                    _ => open.push(user),
                }
            }
        }
        found
    }
}

/// The outside world does not know the statement: the place is the option that it blames, where the statement has it.
fn at_option_or_name(error: Error, create: &CreateTable) -> Error {
    let option = error.field().and_then(|key| create.options.entry(key)).and_then(|entry| entry.location);
    error.at(option).at(create.name.location)
}

/// The error for a DROP of what does not exist, or is of another kind.
fn not_to_drop(catalog: &Catalog, kind: ObjectKind, name: &Name) -> Error {
    let error = catalog.unknown(kind, name);
    match catalog.relation_kind(&name.value) {
        Some(other) => error.with_hint(format!("DROP {} {}", other.as_str().to_uppercase(), name.value)),
        None => error,
    }
}

fn new_object(
    catalog: &Catalog,
    object: &ObjectRef,
    definition: serde_json::Value,
    sql: &str,
    secret: Option<Secret>,
    uses: Vec<ObjectRef>,
) -> Result<NewObject> {
    Ok(NewObject {
        kind: stored(object.kind)?,
        name: object.name.clone(),
        definition,
        sql: sql.to_string(),
        secret,
        uses: catalog.ids(&uses),
    })
}

fn kept(object: &ObjectRef) -> Vec<Notice> {
    vec![Notice::new("already_exists", format!("{object} exists and is kept"))]
}

fn stored(kind: ObjectKind) -> Result<Stored> {
    match kind {
        ObjectKind::Secret => Ok(Stored::Secret),
        ObjectKind::Connection => Ok(Stored::Connection),
        ObjectKind::Table => Ok(Stored::Table),
        ObjectKind::View => Ok(Stored::View),
        ObjectKind::Pipeline => Err(Error::new(Code::Internal, "a pipeline is not stored as an object")),
    }
}

fn json<T: serde::Serialize>(definition: &T) -> Result<serde_json::Value> {
    serde_json::to_value(definition).map_err(|e| Error::internal(format!("a definition cannot be stored: {e}")))
}

//! Secrets, connections, tables and views: one table, unique names, and who uses whom.

use async_trait::async_trait;
use laminar_core::options::{Secret, nearest};
use laminar_core::{Code, Error, Result};

use crate::database::{Failure, Row, Write, damaged};
use crate::store::{Store, json, page_values};
use crate::{CatalogObject, NewObject, ObjectKind, Objects, Page, new_id};

/// Longest name, in bytes: an index entry of PostgreSQL has room for it.
const MAX_NAME_BYTES: usize = 255;

#[async_trait]
impl Objects for Store {
    async fn create_object(&self, new: NewObject) -> Result<CatalogObject> {
        let id = new_id(&self.clock);
        let mut tx = self.database.begin().await?;
        let now = self.now();
        let inserted = self.insert(&mut tx, &id, now, &new).await;
        match inserted {
            Ok(()) => {}
            Err(Failure::Unique) => {
                drop(tx);
                return Err(self.duplicate(new.kind, &new.name).await);
            }
            Err(other) => return Err(other.into()),
        }
        set_uses(&mut tx, &id, &new.uses).await?;
        tx.commit().await?;
        let NewObject { kind, name, definition, sql, .. } = new;
        Ok(CatalogObject { id, kind, name, definition, sql, created_at: now, updated_at: now })
    }

    async fn replace_object(&self, new: NewObject) -> Result<CatalogObject> {
        let mut tx = self.database.begin().await?;
        let key = [new.kind.space().into(), new.name.as_str().into()];
        let found = tx.fetch("SELECT id, kind FROM objects WHERE space = $1 AND name = $2", &key).await?;
        let Some(row) = found.into_iter().next() else {
            drop(tx);
            return self.create_object(new).await;
        };
        if row.text("kind")? != new.kind.as_str() {
            drop(tx);
            return Err(self.duplicate(new.kind, &new.name).await);
        }
        let id = row.text("id")?;
        let sealed = self.sealed(&id, &new)?;
        let sql = "UPDATE objects SET definition = $2, statement = $3, secret = $4, updated_at = $5 WHERE id = $1 \
                   RETURNING *";
        let values = [
            id.as_str().into(),
            sealed.definition.into(),
            sealed.statement.into(),
            sealed.secret.into(),
            self.now().into(),
        ];
        let rows = tx.fetch(sql, &values).await?;
        set_uses(&mut tx, &id, &new.uses).await?;
        tx.commit().await?;
        self.read_object(rows.first().ok_or_else(|| self.unknown_object(new.kind, &new.name))?)
    }

    async fn object(&self, kind: ObjectKind, name: &str) -> Result<CatalogObject> {
        self.read_object(&self.find(kind, name).await?)
    }

    async fn objects(&self, kind: Option<ObjectKind>, page: &Page) -> Result<Vec<CatalogObject>> {
        let [after, limit] = page_values(page, "");
        let rows = match kind {
            Some(kind) => {
                let sql = "SELECT * FROM objects WHERE kind = $3 AND id > $1 ORDER BY id LIMIT $2";
                self.database.fetch(sql, &[after, limit, kind.as_str().into()]).await?
            }
            None => {
                let sql = "SELECT * FROM objects WHERE kind <> 'pipeline' AND id > $1 ORDER BY id LIMIT $2";
                self.database.fetch(sql, &[after, limit]).await?
            }
        };
        rows.iter().map(|row| self.read_object(row)).collect()
    }

    async fn drop_object(&self, kind: ObjectKind, name: &str) -> Result<CatalogObject> {
        let row = self.find(kind, name).await?;
        let object = self.read_object(&row)?;
        self.delete(kind, name, &object.id).await?;
        Ok(object)
    }

    async fn secret_value(&self, name: &str) -> Result<Secret> {
        let row = self.find(ObjectKind::Secret, name).await?;
        let sealed = row.optional_text("secret")?.ok_or_else(|| damaged("secret"))?;
        let value = self.key.open(&place("secret", &row.text("id")?), &sealed)?;
        Ok(Secret::new(value))
    }
}

/// The columns that may be sealed.
pub(crate) struct Sealed {
    definition: String,
    statement: String,
    secret: Option<String>,
}

/// What a sealed column's value is bound to.
pub(crate) fn place(column: &str, id: &str) -> String {
    format!("objects.{column}:{id}")
}

impl Store {
    /// The columns of `new`, sealed where its kind asks for it.
    fn sealed(&self, id: &str, new: &NewObject) -> Result<Sealed> {
        let secret = match &new.secret {
            Some(value) => Some(self.key.seal(&place("secret", id), value.expose())?),
            None => None,
        };
        Ok(Sealed {
            definition: self.seal_column(new.kind, "definition", id, &new.definition.to_string())?,
            statement: self.seal_column(new.kind, "statement", id, &new.sql)?,
            secret,
        })
    }

    pub(crate) fn seal_column(&self, kind: ObjectKind, column: &str, id: &str, text: &str) -> Result<String> {
        if kind.is_sealed() { self.key.seal(&place(column, id), text) } else { Ok(crate::store::storable(text)) }
    }

    pub(crate) fn open_column(&self, kind: ObjectKind, column: &str, row: &Row) -> Result<String> {
        let stored = row.text(column)?;
        if kind.is_sealed() { self.key.open(&place(column, &row.text("id")?), &stored) } else { Ok(stored) }
    }

    /// Adds the row of `objects`.
    pub(crate) async fn insert(&self, tx: &mut Write, id: &str, now: i64, new: &NewObject) -> Result<(), Failure> {
        check_name(&new.name).map_err(Failure::Other)?;
        let sealed = self.sealed(id, new).map_err(Failure::Other)?;
        let sql = "INSERT INTO objects (id, space, kind, name, definition, statement, secret, created_at, updated_at) \
                   VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $8)";
        let values = [
            id.into(),
            new.kind.space().into(),
            new.kind.as_str().into(),
            new.name.as_str().into(),
            sealed.definition.into(),
            sealed.statement.into(),
            sealed.secret.into(),
            now.into(),
        ];
        tx.execute(sql, &values).await.map(|_| ())
    }

    fn read_object(&self, row: &Row) -> Result<CatalogObject> {
        let kind = read_kind(row)?;
        Ok(CatalogObject {
            id: row.text("id")?,
            kind,
            name: row.text("name")?,
            definition: json(&self.open_column(kind, "definition", row)?, "definition")?,
            sql: self.open_column(kind, "statement", row)?,
            created_at: row.int("created_at")?,
            updated_at: row.int("updated_at")?,
        })
    }

    /// The row of `objects` with this kind and name, or the error that says what there is instead.
    async fn find(&self, kind: ObjectKind, name: &str) -> Result<Row> {
        let sql = "SELECT * FROM objects WHERE space = $1 AND name = $2";
        let rows = self.database.fetch(sql, &[kind.space().into(), name.into()]).await?;
        let Some(row) = rows.into_iter().next() else { return Err(self.unknown(kind, name).await) };
        match read_kind(&row)? {
            found if found == kind => Ok(row),
            found => Err(wrong_kind(name, found, kind)),
        }
    }

    pub(crate) fn unknown_object(&self, kind: ObjectKind, name: &str) -> Error {
        Error::new(kind.unknown(), format!("there is no {kind} {name}"))
    }

    /// The error for a name that does not exist, with the nearest one that does.
    pub(crate) async fn unknown(&self, kind: ObjectKind, name: &str) -> Error {
        let error = self.unknown_object(kind, name);
        let sql = "SELECT name FROM objects WHERE space = $1 AND kind = $2";
        let Ok(rows) = self.database.fetch(sql, &[kind.space().into(), kind.as_str().into()]).await else {
            return error;
        };
        let names: Vec<String> = rows.iter().filter_map(|row| row.text("name").ok()).collect();
        match nearest(name, names.iter().map(String::as_str)) {
            Some(near) => error.with_hint(format!("did you mean {near}?")),
            None => error,
        }
    }

    /// The error for a name that is taken, saying by what.
    pub(crate) async fn duplicate(&self, kind: ObjectKind, name: &str) -> Error {
        let sql = "SELECT kind FROM objects WHERE space = $1 AND name = $2";
        let rows = self.database.fetch(sql, &[kind.space().into(), name.into()]).await.unwrap_or_default();
        let owner = rows.first().and_then(|row| read_kind(row).ok()).unwrap_or(kind);
        Error::new(Code::DuplicateName, format!("{owner} {name} already exists"))
    }

    /// Deletes the row of `objects`, and with it all that belongs to it.
    pub(crate) async fn delete(&self, kind: ObjectKind, name: &str, id: &str) -> Result<()> {
        let mut tx = self.database.begin().await?;
        let users = self.users(&mut tx, id).await?;
        if !users.is_empty() {
            return Err(in_use(kind, name, &users));
        }
        match tx.execute("DELETE FROM objects WHERE id = $1", &[id.into()]).await {
            Ok(0) => Err(self.unknown_object(kind, name)),
            Ok(_) => tx.commit().await,
            // Something began to use it after we looked.
            Err(Failure::ForeignKey) => Err(in_use(kind, name, &[])),
            Err(other) => Err(other.into()),
        }
    }

    /// What refers to the object: `view v`, in the order of names.
    async fn users(&self, tx: &mut Write, id: &str) -> Result<Vec<String>> {
        let sql = "SELECT o.kind AS kind, o.name AS name FROM object_uses u JOIN objects o ON o.id = u.object_id \
                   WHERE u.used_id = $1 AND u.object_id <> $1 ORDER BY o.name";
        let rows = tx.fetch(sql, &[id.into()]).await?;
        rows.iter().map(|row| Ok(format!("{} {}", row.text("kind")?, row.text("name")?))).collect()
    }
}

/// Makes `uses` all that the object refers to.
pub(crate) async fn set_uses(tx: &mut Write, id: &str, uses: &[String]) -> Result<()> {
    tx.execute("DELETE FROM object_uses WHERE object_id = $1", &[id.into()]).await?;
    for used in uses {
        let sql =
            "INSERT INTO object_uses (object_id, used_id) VALUES ($1, $2) ON CONFLICT (object_id, used_id) DO NOTHING";
        match tx.execute(sql, &[id.into(), used.as_str().into()]).await {
            Ok(_) => {}
            Err(Failure::ForeignKey) => {
                return Err(Error::new(Code::NotFound, "an object that the statement refers to was dropped meanwhile"));
            }
            Err(other) => return Err(other.into()),
        }
    }
    Ok(())
}

pub(crate) fn read_kind(row: &Row) -> Result<ObjectKind> {
    let text = row.text("kind")?;
    ObjectKind::ALL.into_iter().find(|kind| kind.as_str() == text).ok_or_else(|| damaged("object kind"))
}

pub(crate) fn wrong_kind(name: &str, found: ObjectKind, wanted: ObjectKind) -> Error {
    Error::new(Code::WrongObjectKind, format!("{name} is a {found}, not a {wanted}"))
}

fn in_use(kind: ObjectKind, name: &str, users: &[String]) -> Error {
    let error = Error::new(Code::InUse, format!("{kind} {name} is in use"));
    if users.is_empty() {
        error
    } else {
        error.with_detail(format!("by {}", users.join(", "))).with_hint("drop them first")
    }
}

fn check_name(name: &str) -> Result<()> {
    if name.is_empty() || name.len() > MAX_NAME_BYTES || name.chars().any(char::is_control) {
        let hint = format!("a name has 1 to {MAX_NAME_BYTES} bytes and no control characters");
        return Err(Error::new(Code::InvalidName, "the name cannot be used").with_hint(hint));
    }
    Ok(())
}

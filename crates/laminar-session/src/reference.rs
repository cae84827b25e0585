//! What the reference pages tell of this crate: the system tables and the settings of a session, in words.

use crate::Defaults;
use crate::settings::Settings;
use crate::system::TABLES;

/// A table of the schema `system`.
#[derive(Clone, Debug)]
pub struct SystemTableInfo {
    pub name: &'static str,
    pub about: &'static str,
    pub columns: Vec<SystemColumnInfo>,
}

#[derive(Clone, Debug)]
pub struct SystemColumnInfo {
    pub name: &'static str,
    pub sql_type: &'static str,
    pub about: &'static str,
}

/// Every system table.
pub fn system_tables() -> Vec<SystemTableInfo> {
    let column = |(name, column_type, about): &(&'static str, crate::system::ColumnType, &'static str)| {
        SystemColumnInfo { name, sql_type: column_type.sql(), about }
    };
    let table = |table: &&crate::system::SystemTable| SystemTableInfo {
        name: table.name,
        about: table.about,
        columns: table.columns.iter().map(column).collect(),
    };
    TABLES.iter().map(table).collect()
}

/// Name, value where the server was told nothing, and meaning of each setting of a session.
pub fn session_settings() -> Vec<(String, String, String)> {
    Settings::new(&Defaults::default()).list()
}

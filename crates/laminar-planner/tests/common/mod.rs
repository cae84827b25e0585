//! A catalogue in memory, filled by CREATE statements as a session would; and what each statement of a script gives.

#![allow(dead_code)] // each test binary uses a part

use std::sync::Arc;
use std::time::Duration;

use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::catalog::TableProvider;
use datafusion::datasource::empty::EmptyTable;
use laminar_connectors::Registry;
use laminar_connectors::kafka::KafkaConnector;
use laminar_connectors::memory::MemoryConnector;
use laminar_core::connector::{Connector, Role};
use laminar_core::time::ManualClock;
use laminar_core::{Error, PipelineId, Result};
use laminar_engine::relation::{Keep, RelationHandle};
use laminar_planner::catalog::{CatalogSnapshot, PipelineEntry, TableDef};
use laminar_planner::diagnostic::render;
use laminar_planner::plan::OneShot;
use laminar_planner::settings::PipelineOptions;
use laminar_planner::statement::{ExplainFormat, Insert, PipelineBody, PipelineStep};
use laminar_planner::{
    Changing, Parsed, PipelineContext, PlannedPipeline, Planner, RelationProviders, Resolver, Retain, Statement,
};

/// 2024-01-02 03:04:05 UTC.
pub const NOW_MICROS: i64 = 1_704_164_645_000_000;

pub struct Fixture {
    pub planner: Planner,
    pub catalog: CatalogSnapshot,
}

/// Knows the secret `kafka_password` and a few of the seed's, and the variable `HOST`.
pub struct Values;

impl Resolver for Values {
    fn secret(&self, name: &str) -> Result<Option<String>> {
        let known = ["kafka_password", "key_password", "sr_secret", "confluent_key", "confluent_secret"];
        Ok(known.contains(&name).then(|| "hidden".to_string()))
    }
    fn env(&self, name: &str) -> Result<Option<String>> {
        Ok((name == "HOST").then(|| "localhost".to_string()))
    }
}

impl RelationProviders for Fixture {
    fn system(&self, name: &str) -> Option<Arc<dyn TableProvider>> {
        let columns = match name {
            "connections" => vec!["name", "connector"],
            "pipelines" => vec!["id", "name", "state"],
            _ => return None,
        };
        let fields: Vec<_> = columns.into_iter().map(|c| Field::new(c, DataType::Utf8, true)).collect();
        Some(Arc::new(EmptyTable::new(Arc::new(Schema::new(fields)))))
    }
    fn system_names(&self) -> Vec<String> {
        vec!["connections".into(), "pipelines".into()]
    }
    fn result(&self, pipeline: &str) -> Result<Arc<dyn TableProvider>> {
        let schema = self.catalog.pipelines.get(pipeline).and_then(|p| p.result.clone());
        Ok(Arc::new(EmptyTable::new(schema.ok_or_else(|| Error::internal("no result"))?)))
    }
    fn stream(&self, table: &TableDef) -> Result<Arc<dyn TableProvider>> {
        Ok(Arc::new(EmptyTable::new(table.schema())))
    }
}

impl Fixture {
    pub fn new() -> Self {
        let connectors: Vec<Arc<dyn Connector>> =
            vec![Arc::new(KafkaConnector::new()), Arc::new(MemoryConnector::default())];
        let clock = Arc::new(ManualClock::at_micros(NOW_MICROS));
        let planner = Planner::new(Arc::new(Registry::new(connectors)), clock).unwrap();
        Self { planner, catalog: CatalogSnapshot::default() }
    }

    /// With the statements of a script applied; none may fail.
    pub fn with(script: &str) -> Self {
        let mut fixture = Self::new();
        for parsed in laminar_planner::parse(script).unwrap_or_else(|e| panic!("{}", render(&e, script))) {
            fixture.run(&parsed).unwrap_or_else(|e| panic!("{}", render(&e, script)));
        }
        fixture
    }

    /// One paragraph per statement: what it gave, or its error drawn. The first error ends the script.
    pub fn script(&mut self, script: &str) -> String {
        let statements = match laminar_planner::parse(script) {
            Ok(statements) => statements,
            Err(error) => return render(&error, script),
        };
        let mut out = String::new();
        for parsed in &statements {
            match self.run(parsed) {
                Ok(text) => out.push_str(&format!("{text}\n")),
                Err(error) => return out + &render(&error, script),
            }
        }
        out
    }

    pub fn run(&mut self, parsed: &Parsed) -> Result<String> {
        let planner = &self.planner;
        Ok(match &parsed.statement {
            Statement::CreateSecret(secret) => {
                self.catalog.secrets.insert(secret.name.value.clone());
                parsed.text.clone()
            }
            Statement::CreateConnection(create) => {
                let def = planner.check_connection(create, &Values)?;
                let text = format!("connection {}", def.name);
                self.catalog.connections.insert(def.name.clone(), def);
                text
            }
            Statement::CreateTable(create) => {
                let def = planner.check_table(&self.catalog, create, &Values)?;
                let text = table_text(&def);
                self.catalog.tables.insert(def.name.clone(), def);
                text
            }
            Statement::CreateView(create) => {
                let def = planner.check_view(&self.catalog, create)?;
                let needs: Vec<_> = def.depends_on.iter().map(ToString::to_string).collect();
                let text = format!("view {} needs {}", def.name, needs.join(", "));
                self.catalog.views.insert(def.name.clone(), def);
                text
            }
            Statement::CreatePipeline(create) => {
                let options = PipelineOptions::parse(&create.options, &create.name.value)?;
                let planned = self.plan(&create.body, &options)?;
                self.catalog
                    .pipelines
                    .insert(create.name.value.clone(), PipelineEntry { result: planned.result.clone() });
                format!("pipeline {}\n{}", create.name.value, planned.explain)
            }
            Statement::Explain(explain) => {
                let body = match explain.statement.as_ref() {
                    Statement::CreatePipeline(create) => create.body.clone(),
                    Statement::InsertSelect(insert) => {
                        PipelineBody { steps: vec![PipelineStep::Insert(insert.clone())] }
                    }
                    Statement::Query(query) => PipelineBody { steps: vec![PipelineStep::Select(query.clone())] },
                    other => return Ok(format!("{other:?}")),
                };
                let planned = self.plan(&body, &PipelineOptions::default())?;
                match explain.format {
                    ExplainFormat::Text => planned.explain,
                    ExplainFormat::Verbose => format!("{}\n{}", planned.explain, planned.logical.join("\n")),
                    ExplainFormat::Json => serde_json::to_string_pretty(&planned.explain_json).unwrap(),
                }
            }
            Statement::Query(query) => {
                let frame = planner.plan_query(&self.catalog, query, self)?;
                let columns: Vec<_> = frame.schema().fields().iter().map(|f| f.name().clone()).collect();
                format!("query {}", columns.join(", "))
            }
            Statement::InsertValues(insert) => {
                let one_shot = self.one_shot(insert)?;
                format!("insert into {} {:?}", one_shot.sink.table, names(&one_shot.schema))
            }
            other => format!("{other:?}"),
        })
    }

    pub fn one_shot(&self, insert: &Insert) -> Result<OneShot> {
        self.planner.plan_insert(&self.catalog, insert, &context(&PipelineOptions::default(), &retain))
    }

    pub fn plan(&self, body: &PipelineBody, options: &PipelineOptions) -> Result<PlannedPipeline> {
        self.planner.plan_pipeline(&self.catalog, body, &context(options, &retain))
    }
}

fn retain(
    schema: SchemaRef,
    changing: Changing,
) -> laminar_core::Result<Arc<dyn laminar_engine::operator::OperatorFactory>> {
    let keep = match changing {
        Changing::Never => Keep::Last(100),
        Changing::Updating => Keep::Current,
    };
    Ok(RelationHandle::new(schema, keep)?.operator())
}

fn context<'a>(options: &'a PipelineOptions, retain: &'a Retain<'a>) -> PipelineContext<'a> {
    PipelineContext {
        pipeline: PipelineId::new("p1"),
        instance: "i1".into(),
        options,
        parallelism: options.parallelism.map_or(1, |n| n as usize),
        checkpoint_interval: Duration::from_secs(10),
        clock: Arc::new(ManualClock::at_micros(NOW_MICROS)),
        resolver: &Values,
        retain,
    }
}

fn names(schema: &SchemaRef) -> Vec<&str> {
    schema.fields().iter().map(|f| f.name().as_str()).collect()
}

fn table_text(def: &TableDef) -> String {
    let role = match def.role {
        Some(Role::Source) => "source",
        Some(Role::Sink) => "sink",
        None => "source and sink",
    };
    let column = |c: &laminar_planner::catalog::ColumnDef| {
        let mut text = format!("{} {}", c.name, c.sql_type);
        if !c.nullable {
            text.push_str(" not null");
        }
        for (word, value) in [("default", &c.default), ("generated", &c.generated), ("metadata", &c.metadata)] {
            if let Some(value) = value {
                text.push_str(&format!(" {word} {value}"));
            }
        }
        text
    };
    let columns: Vec<_> = def.columns.iter().map(column).collect();
    let watermark =
        def.watermark.as_ref().map(|w| format!(", watermark {} - {:?}", w.column, w.delay)).unwrap_or_default();
    format!("{} table {} ({role}): {}{watermark}", def.connector, def.name, columns.join(", "))
}

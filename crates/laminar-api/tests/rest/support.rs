//! A server on a free port, and short ways to call it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use laminar_api::AllowedHosts;
use laminar_connectors::Registry;
use laminar_core::time::SystemClock;
use laminar_engine::crash::CrashPoints;
use laminar_metastore::SecretKey;
use laminar_session::{Defaults, System, SystemConfig};
use reqwest::{Client, Method, Response};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

pub struct Server {
    /// `http://127.0.0.1:port`
    pub root: String,
    client: Client,
    system: Arc<System>,
    stop: oneshot::Sender<()>,
    api: JoinHandle<std::io::Result<()>>,
    _state: tempfile::TempDir,
}

impl Server {
    pub async fn start() -> Self {
        let state = tempfile::tempdir().unwrap();
        let clock = Arc::new(SystemClock);
        let metastore =
            laminar_metastore::connect("sqlite::memory:", SecretKey::random().unwrap(), clock.clone()).await.unwrap();
        let config = SystemConfig {
            metastore,
            state_url: state.path().display().to_string(),
            registry: Arc::new(Registry::builtin()),
            clock,
            defaults: Defaults { checkpoint_interval: Duration::from_millis(200), ..Defaults::default() },
            environment: BTreeMap::new(),
            allow_env: false,
            crash: CrashPoints::default(),
        };
        let system = System::start(config).await.unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let root = format!("http://{}", listener.local_addr().unwrap());
        let (stop, stopped) = oneshot::channel();
        let api =
            tokio::spawn(laminar_api::serve(listener, Arc::clone(&system), AllowedHosts::default(), async move {
                let _ = stopped.await;
            }));
        Self { root, client: Client::new(), system, stop, api, _state: state }
    }

    /// As `--query-memory` does.
    pub fn limit_query_memory(&self, bytes: usize) {
        self.system.limit_query_memory(bytes).unwrap();
    }

    /// Stops in good order.
    pub async fn stop(self) {
        let _ = self.stop.send(());
        self.api.await.unwrap().unwrap();
        self.system.shutdown().await;
    }

    fn url(&self, path: &str) -> String {
        format!("{}/api/v1{path}", self.root)
    }

    pub fn request(&self, method: Method, path: &str) -> reqwest::RequestBuilder {
        self.client.request(method, self.url(path))
    }

    pub async fn send(&self, method: Method, path: &str, body: &Value) -> (u16, Value) {
        answer(self.request(method, path).json(body).send().await.unwrap()).await
    }

    pub async fn get(&self, path: &str) -> (u16, Value) {
        answer(self.request(Method::GET, path).send().await.unwrap()).await
    }

    pub async fn post(&self, path: &str, body: &Value) -> (u16, Value) {
        self.send(Method::POST, path, body).await
    }

    pub async fn sql(&self, query: &str) -> (u16, Value) {
        self.post("/sql", &json!({"query": query})).await
    }

    /// Runs SQL that must succeed.
    pub async fn done(&self, query: &str) {
        let (status, body) = self.sql(query).await;
        assert_eq!(status, 200, "{query}: {body}");
    }

    /// Posts to `/sql`, asking for another format.
    pub async fn accept(&self, media: &str, body: &Value) -> Response {
        let response = self.request(Method::POST, "/sql").header("Accept", media).json(body).send().await.unwrap();
        assert_eq!(response.status(), 200);
        response
    }

    /// Reads the resource until it is as wanted.
    pub async fn until(&self, path: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        let began = Instant::now();
        loop {
            let (status, body) = self.get(path).await;
            if status == 200 && wanted(&body) {
                return body;
            }
            assert!(began.elapsed() < Duration::from_secs(30), "{path} stays {status} {body}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

async fn answer(response: Response) -> (u16, Value) {
    let status = response.status().as_u16();
    let text = response.text().await.unwrap();
    let body = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{status}: not JSON ({error}): {text}"));
    (status, body)
}

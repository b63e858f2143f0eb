//! The configuration: plain data, from four places, and where each value came from.
//!
//! Flags override the file, the file overrides the environment, the environment overrides
//! the defaults. In the file unknown keys are errors. In the environment they are not:
//! other programs set variables with our prefix too (Kubernetes does, for a service of our
//! name).

mod cache;

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use figment::providers::{Env, Format, Serialized, Toml};
use figment::value::{Dict, Value};
use figment::{Figment, Profile, Source};
use serde::{Deserialize, Serialize};

use crate::limits::{Limits, PluginLimits, WrongLimit};

pub use self::cache::CacheFolder;

const ENVIRONMENT_PREFIX: &str = "JACKFIELD_";

/// The origin of a value that nobody has set.
const DEFAULT: &str = "default";

/// What a node is told.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Where clients connect; port 0 takes a free one.
    pub listen: SocketAddr,
    /// Where backends, operators and probes ask, over gRPC and HTTP; empty: nowhere.
    pub api: String,
    /// A file with the API's tokens; empty: none, and then only loopback is listened on.
    pub api_tokens: PathBuf,
    /// What the node does: `full`, or `gateway`.
    pub role: Role,
    /// The folder of the plugins.
    pub plugins: PathBuf,
    /// The folder for compiled components; only the node may write there. Empty: none.
    pub cache: CacheFolder,
    /// Threads that serve; 0: one for each processor.
    pub workers: usize,
    /// The other nodes.
    pub mesh: MeshConfig,
    /// Where plugins keep state of their own.
    pub keyvalue: KeyvalueConfig,
    /// How plugins' requests are sent.
    pub http: HttpConfig,
    /// What is logged: a level, or directives of `tracing_subscriber::EnvFilter`.
    pub log: String,
    /// How it is logged.
    pub log_format: LogFormat,
    /// The node's limits.
    pub limits: Limits,
    /// Each plugin's limits, where its manifest does not set them.
    pub plugin: PluginLimits,
}

/// What a node is told of the other nodes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct MeshConfig {
    /// Where peers connect, `HOST:PORT`; empty: the node is alone.
    pub listen: String,
    /// What peers dial to reach this node, `HOST:PORT`; empty: where it listens.
    pub advertise: String,
    /// Registers, each `HOST:PORT`.
    pub registers: Vec<String>,
    /// Other nodes, each `HOST:PORT`.
    pub peers: Vec<String>,
    /// Where else nodes are found: `dns:NAME:PORT` or `etcd:HOST:PORT`.
    pub discover: Vec<String>,
    /// A file with the secret that all nodes and registers share; empty: none, and then only
    /// loopback addresses are listened on, unless there are certificates.
    pub secret_file: PathBuf,
    /// This node's certificate, in PEM; empty: no TLS.
    pub tls_certificate: PathBuf,
    /// The certificate's key.
    pub tls_key: PathBuf,
    /// The certificate of the authority that all nodes' certificates are from.
    pub tls_authority: PathBuf,
    /// The name in all nodes' certificates; empty: the host that each is dialled at.
    pub tls_name: String,
}

/// What a node does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// It holds clients, and runs the plugins of its folder.
    #[default]
    Full,
    /// It holds clients, whose plugins run at other nodes.
    Gateway,
}

/// Where plugins keep state of their own.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct KeyvalueConfig {
    /// `memory`, `file:PATH`, or `redis://HOST:PORT` for a store that several nodes share;
    /// `rediss://HOST:PORT` goes there over TLS.
    pub store: String,
    /// A file with the password of that server; empty: none.
    pub password_file: PathBuf,
    /// A file with the certificates of authorities, in PEM, of which one has signed that
    /// server's; empty: those that browsers trust.
    pub authorities: PathBuf,
}

impl Default for KeyvalueConfig {
    fn default() -> KeyvalueConfig {
        KeyvalueConfig {
            store: "memory".to_owned(),
            password_file: PathBuf::new(),
            authorities: PathBuf::new(),
        }
    }
}

/// How plugins' requests are sent.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct HttpConfig {
    /// A file with certificates of authorities that are trusted beside those of browsers, in
    /// PEM; empty: none.
    pub authorities: PathBuf,
}

/// How log lines look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

impl Default for Config {
    fn default() -> Config {
        Config {
            listen: SocketAddr::from(([127, 0, 0, 1], 8080)),
            api: "127.0.0.1:8081".to_owned(),
            api_tokens: PathBuf::new(),
            role: Role::default(),
            plugins: "plugins".into(),
            cache: CacheFolder::Default,
            workers: 0,
            mesh: MeshConfig::default(),
            keyvalue: KeyvalueConfig::default(),
            http: HttpConfig::default(),
            log: "info".to_owned(),
            log_format: LogFormat::default(),
            limits: Limits::default(),
            plugin: PluginLimits::default(),
        }
    }
}

/// A configuration that has not been read yet: its layers.
#[derive(Debug)]
pub struct Layers(Figment);

/// Why there is no configuration.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file can't be read.
    #[error("the configuration file {} cannot be read: {error}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        error: std::io::Error,
    },
    /// A value is not what it must be, or is unknown.
    #[error("the configuration is wrong: {}", in_our_words(.0))]
    Value(Box<figment::Error>),
    /// A limit can't be kept.
    #[error("the configuration is wrong: {section}.{error} ({origin})")]
    Limit {
        /// Its section.
        section: &'static str,
        /// What is wrong with it.
        error: WrongLimit,
        /// Where its value came from.
        origin: String,
    },
}

/// figment names its profile with each key, and a variable by its key.
fn in_our_words(error: &figment::Error) -> String {
    let mut text = error.to_string();
    if error.metadata.as_ref().is_some_and(is_environment) {
        let variable = format!(
            "{ENVIRONMENT_PREFIX}{}",
            error.path.join("__").to_uppercase()
        );
        let _ = write!(text, " ({variable})");
    }
    text.replace("\"default.", "\"")
}

fn is_environment(metadata: &figment::Metadata) -> bool {
    metadata.name.contains("environment")
}

impl Layers {
    /// From flags, a file and the environment.
    pub fn new(flags: Vec<Flag>, file: Option<&Path>) -> Result<Layers, ConfigError> {
        let known: BTreeSet<String> = entries(&Config::default())
            .into_iter()
            .map(|e| e.0)
            .collect();
        let environment = Env::prefixed(ENVIRONMENT_PREFIX)
            .split("__")
            .filter(move |key| known.contains(&key.as_str().to_ascii_lowercase()));
        let mut layers = Figment::from(Serialized::defaults(Config::default())).merge(environment);
        if let Some(path) = file {
            let unreadable = |error| ConfigError::File {
                path: path.to_owned(),
                error,
            };
            std::fs::File::open(path).map_err(unreadable)?;
            layers = layers.merge(Toml::file_exact(path));
        }
        for flag in flags {
            layers = layers.merge(flag);
        }
        Ok(Layers(layers))
    }

    /// The configuration.
    pub fn read(&self) -> Result<Config, ConfigError> {
        let mut config: Config = self
            .0
            .extract()
            .map_err(|e| ConfigError::Value(Box::new(e)))?;
        if self.origin("cache") == DEFAULT {
            // A wish: only what somebody has named has to be usable.
            config.cache = CacheFolder::Default;
        }
        let wrong = |section| {
            move |error: WrongLimit| ConfigError::Limit {
                section,
                origin: self.origin(&format!("{section}.{}", error.name)),
                error,
            }
        };
        config.limits.check().map_err(wrong("limits"))?;
        config.plugin.check().map_err(wrong("plugin"))?;
        if config.role == Role::Full {
            let holds = config
                .plugin
                .check_holds("message_bytes", config.limits.message_bytes);
            holds.map_err(wrong("plugin"))?;
        }
        Ok(config)
    }

    /// Each value and where it came from, as TOML.
    pub fn describe(&self) -> Result<String, ConfigError> {
        let lines = entries(&self.read()?).into_iter().map(|(key, value)| {
            let origin = self.origin(&key);
            format!("{key} = {value}  # {origin}\n")
        });
        Ok(lines.collect())
    }

    fn origin(&self, key: &str) -> String {
        let Some(metadata) = self.0.find_metadata(key) else {
            return DEFAULT.to_owned();
        };
        match &metadata.source {
            Some(Source::File(path)) => format!("file {}", path.display()),
            None if metadata.name.starts_with("flag ") => metadata.name.to_string(),
            _ if is_environment(metadata) => {
                let name = key.to_uppercase().replace('.', "__");
                format!("environment {ENVIRONMENT_PREFIX}{name}")
            }
            _ => DEFAULT.to_owned(),
        }
    }
}

/// One flag: a layer of its own, so that it can be named as a value's origin.
#[derive(Debug)]
pub struct Flag {
    /// As it was written: `--mesh`.
    pub name: String,
    /// What it sets, as in the file: `mesh.listen`.
    pub key: String,
    /// To what, as TOML has it; what is no number, list or boolean is a string without quotes.
    pub value: String,
}

impl figment::Provider for Flag {
    fn metadata(&self) -> figment::Metadata {
        figment::Metadata::named(format!("flag {}", self.name))
    }

    fn data(&self) -> Result<figment::value::Map<Profile, Dict>, figment::Error> {
        // As in the environment: 7 is a number, "10s" and /a/path are strings.
        let value: Value = self
            .value
            .parse()
            .unwrap_or_else(|e: std::convert::Infallible| match e {});
        let nested = figment::util::nest(&self.key, value);
        let dict = nested.into_dict().unwrap_or_default();
        Ok(Profile::Default.collect(dict))
    }
}

/// A configuration's keys, dotted, and values, as TOML writes them.
fn entries(config: &Config) -> Vec<(String, String)> {
    fn flatten(prefix: &str, table: &toml::Table, entries: &mut Vec<(String, String)>) {
        for (key, value) in table {
            let key = format!("{prefix}{key}");
            match value {
                toml::Value::Table(table) => flatten(&format!("{key}."), table, entries),
                value => entries.push((key, value.to_string())),
            }
        }
    }
    let mut flat = Vec::new();
    // Serialising plain data into a table fails for no value that it can have.
    flatten(
        "",
        &toml::Table::try_from(config).unwrap_or_default(),
        &mut flat,
    );
    flat
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flag(key: &str, value: &str) -> Flag {
        Flag {
            name: format!("--{key}"),
            key: key.to_owned(),
            value: value.to_owned(),
        }
    }

    #[test]
    fn flags_override_the_file_and_each_value_has_its_origin() {
        let folder = std::env::temp_dir().join(format!("jackfield-config-{}", std::process::id()));
        std::fs::create_dir_all(&folder).expect("a folder");
        let file = folder.join("node.toml");
        std::fs::write(
            &file,
            "listen = '127.0.0.1:1'\n[limits]\nping_every = '1m'\n",
        )
        .expect("a file");
        let flags = vec![
            flag("listen", "127.0.0.1:2"),
            flag("limits.message_bytes", "7"),
            flag("mesh.peers", "[\"a:1\",\"b:2\"]"),
        ];
        let layers = Layers::new(flags, Some(&file)).expect("layers");
        let config = layers.read().expect("a configuration");
        assert_eq!(config.listen.port(), 2);
        assert_eq!(config.limits.message_bytes, 7);
        assert_eq!(config.mesh.peers, ["a:1", "b:2"]);
        assert_eq!(config.limits.ping_every.as_secs(), 60);
        let described = layers.describe().expect("a description");
        for line in [
            "listen = \"127.0.0.1:2\"  # flag --listen".to_owned(),
            "limits.message_bytes = 7  # flag --limits.message_bytes".to_owned(),
            format!("limits.ping_every = \"1m\"  # file {}", file.display()),
            "limits.clients = 100000  # default".to_owned(),
        ] {
            assert!(described.contains(&line), "{line} in\n{described}");
        }
        std::fs::remove_dir_all(&folder).expect("its end");
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (key, value, named) in [
            ("listen", "nowhere", "listen"),
            ("limits.message_bytes", "many", "message_bytes"),
            ("limits.message", "7", "message"),
            ("plugin.instances", "0", "plugin.instances is 0"),
        ] {
            let layers = Layers::new(vec![flag(key, value)], None).expect("layers");
            let error = layers.read().expect_err(key).to_string();
            assert!(error.contains(named) && error.contains("flag"), "{error}");
        }
    }
}

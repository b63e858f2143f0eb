//! The configuration: plain data from four sources, with the origin of each value.
//!
//! Flags override the file, the file overrides the environment, and the environment overrides the
//! defaults. An unknown key is an error in the file, but not in the environment, since other
//! programs also set variables with our prefix. Kubernetes does so for a service with our name.

mod acme;
mod cache;
mod proxy;
mod tls;
mod tracing;

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use documented::DocumentedFields;
use figment::providers::{Env, Format, Serialized, Toml};
use figment::value::{Dict, Value};
use figment::{Figment, Profile, Source};
use serde::{Deserialize, Serialize};

use crate::limits::{Limits, PluginLimits, WrongLimit};
use crate::listener::{ListenAddress, UnixSocketConfig};

pub use self::acme::{AcmeChallenge, AcmeConfig};
pub use self::cache::CacheFolder;
pub use self::proxy::{ForwardingHeader, ProxyConfig, TrustedProxy};
pub use self::tls::{CertificateFiles, TlsConfig, TlsVersion};
pub use self::tracing::TracingConfig;

const ENVIRONMENT_PREFIX: &str = "JACKFIELD_";

/// The origin of a value that nobody has set.
const DEFAULT: &str = "default";

/// The configuration of one node.
#[derive(Clone, Debug, Serialize, Deserialize, DocumentedFields)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// The addresses where clients connect without TLS: one address, or a list of them.
    #[serde(deserialize_with = "crate::listener::one_or_many")]
    pub listen: Vec<ListenAddress>,
    /// The mode and the owner of the files of Unix sockets where clients connect.
    pub unix_socket: UnixSocketConfig,
    /// The Unix socket by which a node that starts takes over the listening sockets of the node that
    /// runs, which drains then. Both have the same path here. An empty path disables this.
    pub handover: PathBuf,
    /// The settings for TLS at the ports for clients and of the API.
    pub tls: TlsConfig,
    /// The settings for proxies in front of the clients' ports.
    pub proxy: ProxyConfig,
    /// The address where backends, operators and probes connect, over gRPC and HTTP. An empty text
    /// disables the API.
    pub api: String,
    /// A file with the API's tokens. With an empty path there are no tokens, and the API listens on
    /// loopback only.
    pub api_tokens: PathBuf,
    /// The role of the node: `full` or `gateway`.
    pub role: Role,
    /// The folder that contains the plugins.
    pub plugins: PathBuf,
    /// The folder for compiled components. Only the node may be able to write there. An empty path
    /// disables the cache.
    pub cache: CacheFolder,
    /// The folder for the builds that the plugins have had, which the node goes back to when a build
    /// fails. Only the node may be able to write there. With an empty path, it is in the folder
    /// `cache`.
    pub builds: PathBuf,
    /// The number of threads that serve. The value 0 means one thread for each processor.
    pub workers: usize,
    /// The settings for the mesh of nodes.
    pub mesh: MeshConfig,
    /// The settings of the store where plugins keep their own state.
    pub keyvalue: KeyvalueConfig,
    /// The settings for the HTTP requests of plugins.
    pub http: HttpConfig,
    /// The settings for spans, which a tracing backend shows.
    pub tracing: TracingConfig,
    /// The filter of the log: a level, or directives of `tracing_subscriber::EnvFilter`.
    pub log: String,
    /// The format of the log lines.
    pub log_format: LogFormat,
    /// The limits of the node itself.
    pub limits: Limits,
    /// The limits of each plugin, where its manifest does not set them.
    pub plugin: PluginLimits,
}

/// The settings of a node for the mesh.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, DocumentedFields)]
#[serde(default, deny_unknown_fields)]
pub struct MeshConfig {
    /// The address where peers connect, `HOST:PORT`. With an empty text, the node is alone.
    pub listen: String,
    /// The address that peers dial to reach this node, `HOST:PORT`. An empty text means the address
    /// where the node listens.
    pub advertise: String,
    /// The addresses of the registers, each `HOST:PORT`.
    pub registers: Vec<String>,
    /// The addresses of other nodes, each `HOST:PORT`.
    pub peers: Vec<String>,
    /// Other sources of node addresses: `dns:NAME:PORT` or `etcd:HOST:PORT`.
    pub discover: Vec<String>,
    /// A file with the secret that all nodes and registers share. With an empty path there is no
    /// secret, and the node listens on loopback addresses only, unless there are certificates.
    pub secret_file: PathBuf,
    /// The certificate of this node, in PEM. An empty path disables TLS.
    pub tls_certificate: PathBuf,
    /// The private key of this node's certificate.
    pub tls_key: PathBuf,
    /// The certificate of the authority that has issued the certificates of all nodes.
    pub tls_authority: PathBuf,
    /// The name in the certificates of all nodes. An empty text means the host that is dialled for
    /// each node.
    pub tls_name: String,
}

/// The role of a node in the cluster.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// The node holds clients, and runs the plugins of its folder.
    #[default]
    Full,
    /// The node holds clients, but their plugins run on other nodes.
    Gateway,
}

/// The settings of the store where plugins keep their own state.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, DocumentedFields)]
#[serde(default, deny_unknown_fields)]
pub struct KeyvalueConfig {
    /// The store: `memory`, `file:PATH`, or `redis://HOST:PORT` for a server that several nodes
    /// share. With `rediss://HOST:PORT`, the connection to the server uses TLS.
    pub store: String,
    /// A file with the password of the store's server. An empty path means no password.
    pub password_file: PathBuf,
    /// A file with the certificates of authorities, in PEM. One of these authorities has signed the
    /// certificate of the store's server. An empty path means the authorities that browsers trust.
    pub authorities: PathBuf,
}

impl KeyvalueConfig {
    /// Whether the store is a file, which one process has at a time.
    pub fn is_file(&self) -> bool {
        self.store.starts_with("file:")
    }
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

/// The settings for the HTTP requests of plugins.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, DocumentedFields)]
#[serde(default, deny_unknown_fields)]
pub struct HttpConfig {
    /// A file with certificates of authorities, in PEM. These authorities are trusted in addition
    /// to those that browsers trust. An empty path adds none.
    pub authorities: PathBuf,
}

/// The format of the log lines.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// Plain text for people to read.
    #[default]
    Text,
    /// One JSON object on each line.
    Json,
}

impl Default for Config {
    fn default() -> Config {
        Config {
            listen: vec![ListenAddress::Tcp("127.0.0.1:8080".to_owned())],
            unix_socket: UnixSocketConfig::default(),
            handover: PathBuf::new(),
            tls: TlsConfig::default(),
            proxy: ProxyConfig::default(),
            api: "127.0.0.1:8081".to_owned(),
            api_tokens: PathBuf::new(),
            role: Role::default(),
            plugins: "plugins".into(),
            cache: CacheFolder::Default,
            builds: PathBuf::new(),
            workers: 0,
            mesh: MeshConfig::default(),
            keyvalue: KeyvalueConfig::default(),
            http: HttpConfig::default(),
            tracing: TracingConfig::default(),
            log: "info".to_owned(),
            log_format: LogFormat::default(),
            limits: Limits::default(),
            plugin: PluginLimits::default(),
        }
    }
}

/// The layers of a configuration that has not been read yet.
#[derive(Debug)]
pub struct Layers(Figment);

/// The reason why the configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The configuration file cannot be read.
    #[error("the configuration file {} cannot be read: {error}", path.display())]
    File {
        /// The path of the configuration file.
        path: PathBuf,
        /// The error of the attempt to read the file.
        error: std::io::Error,
    },
    /// A value has the wrong form, or its key is unknown.
    #[error("the configuration is wrong: {}", in_our_words(.0))]
    Value(Box<figment::Error>),
    /// The value of a limit cannot be used.
    #[error("the configuration is wrong: {section}.{error} ({origin})")]
    Limit {
        /// The section that contains the limit.
        section: &'static str,
        /// The limit, and what is wrong with its value.
        error: WrongLimit,
        /// The origin of the limit's value.
        origin: String,
    },
}

/// Rewrites an error of figment. The name of figment's profile is removed, and an environment
/// variable is added by its full name.
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
    /// Collects the layers from flags, a file and the environment.
    ///
    /// # Errors
    ///
    /// Returns an error when the file cannot be opened.
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

    /// Reads the configuration from its layers, and checks the limits.
    ///
    /// # Errors
    ///
    /// Returns an error when a value has the wrong form, when a key is unknown, or when a limit
    /// cannot be used.
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
        let checked = config.check();
        checked.map_err(|(section, error)| wrong(section)(error))?;
        Ok(config)
    }

    /// Describes each value with its origin, as TOML.
    ///
    /// # Errors
    ///
    /// Returns an error in the same cases as `Layers::read`.
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

impl Config {
    /// The keys whose values are different in `other`, joined by dots.
    pub fn changed_keys(&self, other: &Config) -> Vec<String> {
        let others = entries(other);
        let changed = entries(self).into_iter().zip(others);
        let changed = changed.filter(|(one, other)| one != other);
        changed.map(|((key, _), _)| key).collect()
    }

    /// Checks that the values of all limits can be used together.
    ///
    /// # Errors
    ///
    /// Returns the section and the error of a limit that cannot be used.
    pub fn check(&self) -> Result<(), (&'static str, WrongLimit)> {
        self.limits.check().map_err(|error| ("limits", error))?;
        self.plugin.check().map_err(|error| ("plugin", error))?;
        if self.role == Role::Full {
            let bytes = self.limits.message_bytes;
            let holds = self.plugin.check_holds("message_bytes", bytes);
            holds.map_err(|error| ("plugin", error))?;
        }
        Ok(())
    }

    /// Takes the values that take effect in a node that runs.
    pub fn take_live(&mut self, new: &Config) {
        self.log.clone_from(&new.log);
        self.proxy.clone_from(&new.proxy);
        self.limits.take_live(&new.limits);
    }
}

/// One flag of the command line. Each flag is a separate layer, so that it can be named as the
/// origin of a value.
#[derive(Debug)]
pub struct Flag {
    /// The flag as it was written: `--mesh`.
    pub name: String,
    /// The key that the flag sets, as in the file: `mesh.listen`.
    pub key: String,
    /// The value that the flag sets, in TOML. A text that is no number, list or boolean is a string
    /// without quotes.
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

/// The keys of a configuration, joined by dots, with their values in TOML.
pub(crate) fn entries(config: &Config) -> Vec<(String, String)> {
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
        assert_eq!(config.listen, ["127.0.0.1:2".parse().expect("an address")]);
        assert_eq!(config.limits.message_bytes, 7);
        assert_eq!(config.mesh.peers, ["a:1", "b:2"]);
        assert_eq!(config.limits.ping_every.as_secs(), 60);
        let described = layers.describe().expect("a description");
        for line in [
            "listen = [\"127.0.0.1:2\"]  # flag --listen".to_owned(),
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

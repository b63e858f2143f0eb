//! A client that asks to come in, and the answers to it.

use crate::Info;

/// A `Handshake` describes a client that asks to come in, as its HTTP request said it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Handshake {
    /// The path is the request's, percent-encoded as it came.
    pub path: String,
    /// The query's names and values are here in their order, percent-decoded.
    pub query: Vec<(String, String)>,
    /// The headers are here in their order, with their names in lower case.
    pub headers: Vec<(String, String)>,
    /// The address is the client's with its port: `127.0.0.1:51234`. Behind a proxy that the
    /// operator trusts, it is what the proxy says, with port 0 where it says none. A client of a Unix
    /// socket has `unix`.
    pub remote_address: String,
    /// The offered subprotocols are here, in the client's order of preference.
    pub subprotocols: Vec<String>,
    /// The node itself has found this uid for the client, where the manifest says how. It is bound
    /// when the client is accepted, unless the client has another one by then.
    pub uid: Option<String>,
}

impl Handshake {
    /// Returns the first value of a query parameter.
    ///
    /// ```
    /// use jackfield_sdk::Handshake;
    ///
    /// let query = vec![("room".to_owned(), "tea".to_owned())];
    /// let handshake = Handshake { query, ..Handshake::default() };
    /// assert_eq!(handshake.query("room"), Some("tea"));
    /// assert_eq!(handshake.query("Room"), None); // the name's case matters
    /// ```
    pub fn query(&self, name: &str) -> Option<&str> {
        self.query
            .iter()
            .find(|(key, _)| key == name)
            .map(|(_, value)| value.as_str())
    }

    /// Returns the first value of a header; the name's case does not matter.
    ///
    /// A header that came in several lines, as `Cookie` may, has one entry for each in
    /// [`headers`](Handshake::headers).
    ///
    /// ```
    /// use jackfield_sdk::Handshake;
    ///
    /// let headers = vec![("x-forwarded-for".to_owned(), "192.0.2.7".to_owned())];
    /// let handshake = Handshake { headers, ..Handshake::default() };
    /// assert_eq!(handshake.header("X-Forwarded-For"), Some("192.0.2.7"));
    /// assert_eq!(handshake.header("cookie"), None);
    /// ```
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(key, _)| key.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_str())
    }

    /// Returns a parameter of the path, as the routes of the manifest name it.
    ///
    /// With `routes = ["/rooms/{room}"]`, the parameter `room` of `/rooms/tea` is `tea`. It is
    /// percent-decoded.
    ///
    /// ```
    /// use jackfield_sdk::Handshake;
    ///
    /// let headers = vec![("jackfield-path-room".to_owned(), "tea".to_owned())];
    /// let handshake = Handshake { headers, ..Handshake::default() };
    /// assert_eq!(handshake.parameter("room"), Some("tea"));
    /// assert_eq!(handshake.parameter("seat"), None);
    /// ```
    pub fn parameter(&self, name: &str) -> Option<&str> {
        self.header(&format!("jackfield-path-{name}"))
    }

    /// Reads the claims of the client's token, whose signature the node has verified (`[jwt]`).
    ///
    /// # Errors
    ///
    /// The handshake has no token, or its claims are not such a `T`.
    ///
    /// ```
    /// use jackfield_sdk::Handshake;
    /// use serde::Deserialize;
    ///
    /// #[derive(Deserialize)]
    /// struct Claims {
    ///     sub: String,
    ///     role: String,
    /// }
    ///
    /// let claims = r#"{"sub":"ada","role":"seller","exp":1795827780}"#.to_owned();
    /// let headers = vec![("jackfield-token-claims".to_owned(), claims)];
    /// let handshake = Handshake { headers, ..Handshake::default() };
    /// let claims: Claims = handshake.claims()?;
    /// assert_eq!((&*claims.sub, &*claims.role), ("ada", "seller"));
    /// # Ok::<(), jackfield_sdk::JsonError>(())
    /// ```
    #[cfg(feature = "json")]
    pub fn claims<T: serde::de::DeserializeOwned>(&self) -> Result<T, crate::JsonError> {
        crate::from_json(self.header("jackfield-token-claims").unwrap_or_default())
    }
}

/// An `Accept` lets a client in; all that it has is optional.
///
/// ```
/// use jackfield_sdk::Accept;
///
/// let accept = Accept::new().uid("ada").group("lobby").info("name", "Ada");
/// assert_eq!(accept.uid.as_deref(), Some("ada"));
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Accept {
    /// The subprotocol is one of those that the client offered; another one refuses it with 500.
    pub subprotocol: Option<String>,
    /// The uid is bound as by [`bind_uid`](crate::bind_uid), in place of the handshake's.
    ///
    /// Where the policy is `reject-new` and the uid is taken, the client is refused with 409.
    pub uid: Option<String>,
    /// The client joins these groups as by [`join_group`](crate::join_group).
    pub groups: Vec<String>,
    /// The info is set as by [`set_info`](crate::set_info).
    pub info: Info,
}

impl Accept {
    /// Lets the client in as it is.
    ///
    /// ```
    /// use jackfield_sdk::{Accept, ClientId, Handshake, Plugin, Refuse, testing::Host};
    ///
    /// struct Open;
    ///
    /// impl Plugin for Open {
    ///     fn on_connect(_: ClientId, _: Handshake) -> Result<Accept, Refuse> {
    ///         Ok(Accept::new())
    ///     }
    /// }
    ///
    /// assert!(Host::of::<Open>().connect("/").is_ok());
    /// ```
    pub fn new() -> Accept {
        Accept::default()
    }

    /// Chooses this subprotocol, which is one of those that the client offered.
    ///
    /// ```
    /// use jackfield_sdk::{Accept, ClientId, Handshake, Plugin, Refuse, testing::Host};
    ///
    /// struct Second;
    ///
    /// impl Plugin for Second {
    ///     fn on_connect(_: ClientId, _: Handshake) -> Result<Accept, Refuse> {
    ///         Ok(Accept::new().subprotocol("v2"))
    ///     }
    /// }
    ///
    /// let host = Host::of::<Second>();
    /// let subprotocols = vec!["v1".to_owned(), "v2".to_owned()];
    /// let handshake = Handshake { subprotocols, ..Handshake::get("/") };
    /// let ada = host.connect_with(handshake)?;
    /// assert_eq!(ada.subprotocol(), Some("v2"));
    ///
    /// // This client offers none, so `v2` can't be had.
    /// assert_eq!(host.connect("/").unwrap_err().status, 500);
    /// # Ok::<(), Refuse>(())
    /// ```
    pub fn subprotocol(mut self, name: impl Into<String>) -> Accept {
        self.subprotocol = Some(name.into());
        self
    }

    /// Binds this uid when the client comes in.
    ///
    /// ```
    /// use jackfield_sdk::{Accept, ClientId, Handshake, Plugin, Refuse};
    /// use jackfield_sdk::{is_uid_online, testing::Host};
    ///
    /// struct Ada;
    ///
    /// impl Plugin for Ada {
    ///     fn on_connect(_: ClientId, _: Handshake) -> Result<Accept, Refuse> {
    ///         Ok(Accept::new().uid("ada"))
    ///     }
    /// }
    ///
    /// let host = Host::of::<Ada>();
    /// host.connect("/")?;
    /// assert_eq!(host.run(|| is_uid_online("ada")), Ok(true));
    /// # Ok::<(), Refuse>(())
    /// ```
    pub fn uid(mut self, uid: impl Into<String>) -> Accept {
        self.uid = Some(uid.into());
        self
    }

    /// Joins this group when the client comes in, and those named before.
    ///
    /// ```
    /// use jackfield_sdk::Accept;
    ///
    /// let accept = Accept::new().group("lobby").group("table 4");
    /// assert_eq!(accept.groups, ["lobby", "table 4"]);
    /// ```
    pub fn group(mut self, group: impl Into<String>) -> Accept {
        self.groups.push(group.into());
        self
    }

    /// Sets one entry of the client's info.
    ///
    /// ```
    /// use jackfield_sdk::Accept;
    ///
    /// let accept = Accept::new().info("name", "Ada").info("seat", "7");
    /// assert_eq!(accept.info["name"], "Ada");
    /// assert_eq!(accept.info["seat"], "7");
    /// ```
    pub fn info(mut self, key: impl Into<String>, value: impl Into<String>) -> Accept {
        self.info.insert(key.into(), value.into());
        self
    }
}

/// A `Refuse` turns a client away before the upgrade, with an HTTP answer.
///
/// A browser keeps that answer from its page. Where the plugin's manifest has `refuse = "close"`,
/// the client gets a close frame instead: its code is 4000 and the status, and its reason is the
/// first 123 bytes of the text.
///
/// ```
/// use jackfield_sdk::Refuse;
///
/// assert_eq!(Refuse::new(401, "log in first").status, 401);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refuse {
    /// The HTTP status is 400 to 599; anything else becomes 403.
    pub status: u16,
    /// The reason is the answer's body, as plain text.
    pub reason: String,
}

impl Refuse {
    /// Makes a refusal of an HTTP status, 400 to 599, and a sentence for whoever reads the answer.
    ///
    /// ```
    /// use jackfield_sdk::{Accept, ClientId, Handshake, Plugin, Refuse, testing::Host};
    ///
    /// struct Full;
    ///
    /// impl Plugin for Full {
    ///     fn on_connect(_: ClientId, handshake: Handshake) -> Result<Accept, Refuse> {
    ///         match handshake.query("vip") {
    ///             Some(_) => Err(Refuse::new(200, "200 refuses nobody")),
    ///             None => Err(Refuse::new(503, "come back later")),
    ///         }
    ///     }
    /// }
    ///
    /// let host = Host::of::<Full>();
    /// let refused = host.connect("/").unwrap_err();
    /// assert_eq!((refused.status, &*refused.reason), (503, "come back later"));
    ///
    /// assert_eq!(host.connect("/?vip").unwrap_err().status, 403);
    /// ```
    pub fn new(status: u16, reason: impl Into<String>) -> Refuse {
        Refuse {
            status,
            reason: reason.into(),
        }
    }
}

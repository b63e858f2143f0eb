//! Subprotocols: the choice among those that a client offers, where its plugin does not choose.

use crate::invalid_value::InvalidValue;

/// The rules `subprotocols`, in order of preference, and `require_subprotocol` of a manifest.
#[derive(Debug, Default)]
pub(super) struct Subprotocols {
    preferred: Vec<String>,
    is_required: bool,
}

impl Subprotocols {
    pub(super) fn parse(
        preferred: &[String],
        is_required: bool,
    ) -> Result<Subprotocols, InvalidValue> {
        if let Some(wrong) = preferred.iter().find(|name| !is_token(name)) {
            let why = format!("{wrong:?} is no subprotocol: no spaces, quotes or commas in it");
            return Err(InvalidValue::new("subprotocols", why));
        }
        if is_required && preferred.is_empty() {
            let why = "there are no subprotocols: name them under that key";
            return Err(InvalidValue::new("require_subprotocol", why));
        }
        Ok(Subprotocols {
            preferred: preferred.to_vec(),
            is_required,
        })
    }

    /// The first preferred subprotocol that the client offers.
    pub(super) fn choose(&self, offered: &[String]) -> Option<String> {
        let is_offered = |name: &&String| offered.contains(name);
        self.preferred.iter().find(is_offered).cloned()
    }

    /// What a client that offers no known subprotocol is to be told, if one is required.
    pub(super) fn missing(&self, offered: &[String]) -> Option<String> {
        let is_missing = self.is_required && self.choose(offered).is_none();
        is_missing.then(|| {
            let names = self.preferred.join(", ");
            format!("offer one of these subprotocols: {names}")
        })
    }
}

/// Whether a text is a token as RFC 9110, section 5.6.2, defines it.
pub fn is_token(name: &str) -> bool {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    !name.is_empty() && name.bytes().all(fits)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn the_nodes_preference_counts() {
        let spoken = Subprotocols::parse(&names(&["v2", "v1"]), true).expect("good names");
        assert_eq!(spoken.choose(&names(&["v1", "v2"])).as_deref(), Some("v2"));
        assert_eq!(spoken.choose(&names(&["v0", "v1"])).as_deref(), Some("v1"));
        assert_eq!(spoken.choose(&names(&["V2"])), None);
        let told = spoken.missing(&[]).expect("one is required");
        assert!(told.contains("v2, v1"), "{told}");
    }

    #[test]
    fn what_can_not_be_spoken_is_named() {
        for name in ["", "v 1", "v,1", "\"v1\"", "v1/2", "é"] {
            let error = Subprotocols::parse(&names(&["v1", name]), false).expect_err(name);
            let error = error.to_string();
            assert!(
                error.starts_with(&format!("subprotocols: {name:?}")),
                "{error}"
            );
        }
        assert!(Subprotocols::parse(&[], true).is_err());
    }
}

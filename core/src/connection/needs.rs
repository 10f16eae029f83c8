//! What a request needs of the server, checked before anything is sent.
//!
//! The types know what is experimental and since when the server has it. What a request needs is checked when it is made;
//! if the server's version is not known yet, because the handshake is under way, it is checked again when it is.

use super::{Connection, RequestKey};
use crate::{
    error::{CallError, Fault},
    json::Json,
    protocol::Request,
    time::Time,
};
use alloc::{borrow::Cow, string::String, vec::Vec};
use serde::Serialize;

/// The servers whose schemas are known, oldest first.
const KNOWN: [&str; 4] = [super::ServerInfo::OLDEST_TRIED, "0.144.4", "0.154.0", super::ServerInfo::NEWEST_TRIED];

/// A method or a member, and the oldest of the known servers that has it.
#[derive(Clone, Debug)]
pub(super) struct Need {
    what: &'static str,
    since: &'static str,
    /// Whether a server that does not have it says so. It passes over members that it does not know, as if they were not said.
    is_refused: bool,
}

/// A request that is encoded, and what it needs of the server.
///
/// Making one runs the code of the params' type; entering it does not. So whoever shares a connection behind a lock makes
/// it before taking the lock.
#[derive(Clone, Debug)]
#[must_use = "nothing is sent before the request is entered"]
pub struct Prepared {
    pub(super) method: Cow<'static, str>,
    pub(super) params: Json,
    experimental: Option<&'static str>,
    needs: Vec<Need>,
}

impl Prepared {
    /// Encodes a request.
    ///
    /// # Errors
    /// When the params have no JSON form.
    pub fn new<R: Request>(params: &R) -> Result<Self, CallError> {
        let own = R::EXPERIMENTAL.then_some(R::METHOD);
        let mut needs: Vec<Need> =
            R::SINCE.map(|since| Need { what: R::METHOD, since, is_refused: true }).into_iter().collect();
        let members = params.newer_fields().into_iter();
        needs.extend(members.map(|(what, since)| Need { what, since, is_refused: false }));
        let experimental = own.or_else(|| params.experimental_fields().first().copied());
        Ok(Self { experimental, needs, ..Self::raw(R::METHOD, params)? })
    }

    /// Encodes a request for which there is no type. Nothing is known of what it needs.
    ///
    /// # Errors
    /// When the params have no JSON form.
    pub fn raw<P: Serialize + ?Sized>(method: impl Into<Cow<'static, str>>, params: &P) -> Result<Self, CallError> {
        let method = method.into();
        match Json::encode(params) {
            Ok(params) => Ok(Self { method, params, experimental: None, needs: Vec::new() }),
            Err(error) => Err(CallError::new(method, Fault::Encode(alloc::format!("{error}")))),
        }
    }

    /// Adds a member to the params, which are an object that has members and not this one.
    pub(super) fn set_member(&mut self, name: &str, value: &Json) {
        let Some(members) = self.params.as_str().trim_end().strip_suffix('}') else { return };
        if let Ok(params) = Json::parse(&alloc::format!("{members},\"{name}\":{}}}", value.as_str())) {
            self.params = params;
        }
    }

    pub(super) fn take_needs(&mut self) -> Vec<Need> {
        core::mem::take(&mut self.needs)
    }
}

impl Connection {
    /// Whether the server is known to be of this version or a later one.
    #[cfg(feature = "client")]
    pub(crate) fn is_at_least(&self, since: &'static str) -> bool {
        self.server.is_some() && self.unmet(&[Need { what: "", since, is_refused: false }]).is_none()
    }

    /// Checks what a request needs of a server that is known.
    pub(super) fn check(&self, request: &Prepared) -> Result<(), CallError> {
        let fault = match request.experimental {
            Some(what) if !self.config.experimental_api => Some(Fault::NeedsExperimental { what: Cow::Borrowed(what) }),
            _ if self.is_ready() => self.lacking(&request.needs),
            _ => None,
        };
        fault.map_or(Ok(()), |fault| Err(CallError::new(request.method.clone(), fault)))
    }

    /// Keeps what a request needs until the server is known.
    pub(super) fn note_needs(&mut self, key: RequestKey, needs: Vec<Need>) {
        if !needs.is_empty() && !self.is_ready() {
            self.unchecked.push((key, needs));
        }
    }

    /// Fails the requests that waited for the handshake and need a newer server.
    pub(super) fn refuse_what_is_too_new(&mut self, now: Time) {
        for (key, needs) in core::mem::take(&mut self.unchecked) {
            if let Some(fault) = self.lacking(&needs) {
                self.settle_request(now, key, Err(fault));
            }
        }
    }

    /// Whether the server takes what needs the experimental capability and at least this version, as far as is known.
    #[cfg(feature = "client")]
    pub(crate) fn takes_experimental(&self, what: &'static str, since: &'static str) -> bool {
        self.config.experimental_api
            && self.is_ready()
            && self.unmet(&[Need { what, since, is_refused: false }]).is_none()
    }

    /// Whether the server is older than this, or may be, since it does not say.
    pub(crate) fn may_be_older_than(&self, since: &str) -> bool {
        let reported = self.server.as_ref().and_then(|server| server.version.as_deref());
        let version = self.config.assume_version.as_deref().or(reported).and_then(Version::parse);
        version.is_none_or(|version| Version::parse(since).is_some_and(|since| version < since))
    }

    /// What the server does not have, as far as is known. A server between two known ones may have a method that the later has;
    /// it is asked, since it refuses what it does not know.
    fn lacking(&self, needs: &[Need]) -> Option<Fault> {
        self.first_of(needs, |need, since, version| {
            let before = KNOWN.into_iter().filter_map(Version::parse).filter(|known| *known < since).max();
            let may_have = need.is_refused && before.is_some_and(|before| version > before);
            since > version && !may_have
        })
    }

    /// What the server may not have.
    #[cfg(feature = "client")]
    fn unmet(&self, needs: &[Need]) -> Option<Fault> {
        self.first_of(needs, |_, since, version| since > version)
    }

    fn first_of(&self, needs: &[Need], is_meant: impl Fn(&Need, Version, Version) -> bool) -> Option<Fault> {
        let reported = self.server.as_ref().and_then(|server| server.version.as_deref());
        let actual = self.config.assume_version.as_deref().or(reported)?;
        let version = Version::parse(actual)?;
        let is_lacking = |need: &&Need| Version::parse(need.since).is_some_and(|since| is_meant(need, since, version));
        let Need { what, since, .. } = needs.iter().find(is_lacking)?;
        Some(Fault::NeedsNewer { what: Cow::Borrowed(what), required: since, actual: String::from(actual) })
    }
}

/// Three numbers. What comes after them, such as `-alpha.1`, does not count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Version([u64; 3]);

impl Version {
    /// The first two numbers.
    pub(super) fn minor(self) -> (u64, u64) {
        let [major, minor, _] = self.0;
        (major, minor)
    }

    pub(super) fn parse(text: &str) -> Option<Self> {
        let core = text.split(['-', '+']).next()?;
        let mut parts = core.split('.');
        let mut next = || parts.next()?.parse::<u64>().ok();
        let version = Self([next()?, next()?, next()?]);
        // A build that nobody numbered says 0.0.0.
        (version.0 != [0, 0, 0]).then_some(version)
    }
}

#[cfg(test)]
mod tests {
    use super::{KNOWN, Version};
    use alloc::format;

    #[test]
    fn the_known_servers_are_those_whose_schemas_are_checked_in() {
        let codegen = include_str!("../../codegen/src/main.rs");
        assert!(codegen.contains(&format!("const VERSIONS: [&str; {}] = {KNOWN:?};", KNOWN.len())));
    }

    #[test]
    fn versions_are_compared_as_numbers() {
        let version = |text| Version::parse(text).expect("a version");
        assert!(version("0.163.0") > version("0.99.9"));
        assert!(version("0.163.0-alpha.3") == version("0.163.0"));
        assert!(version("1.0.0") > version("0.163.0"));
        for unknown in ["0.0.0", "dev", "0.163", ""] {
            assert!(Version::parse(unknown).is_none(), "{unknown}");
        }
    }
}

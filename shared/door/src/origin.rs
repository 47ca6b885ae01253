//! Requests that a browser makes for a page of somebody else's: refused, because a browser on this machine is not its
//! user's program. Pure.
//!
//! A page may have its visitor's browser send a form or a script's request to any address that the visitor can reach, with
//! the visitor's place in the network; and a name that its owner makes point here (DNS rebinding) lets the page read the
//! answer, too. What a browser adds by itself tells: `Host`, `Origin`, `Sec-Fetch-Site`, and the content types that
//! need no leave. Programs such as curl send none but `Host`.

use std::net::IpAddr;

use http::header::{self, HeaderMap, HeaderName};
use http::uri::Authority;
use http::{Method, StatusCode, Uri};

/// Suffixes that no stranger can register a name under.
const PRIVATE: [&str; 5] = ["localhost", "local", "internal", "svc", "lan"];
/// Content types that a page may have a browser post anywhere without asking.
const OF_FORMS: [&str; 3] = ["application/x-www-form-urlencoded", "multipart/form-data", "text/plain"];
/// How every browser begins to say what it is.
const BROWSER: &str = "Mozilla/";
const FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");
const FETCH_MODE: HeaderName = HeaderName::from_static("sec-fetch-mode");

/// Names under which a door may be called.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Hosts {
    own: Vec<String>,
    allowed: Vec<String>,
    is_any_name: bool,
}

/// Reason why a request is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Foreign {
    #[error(
        "`{0}` is no name of this server; say one that is, or its address, or list this one in `allowed_hosts`"
    )]
    Host(String),
    #[error("a request of a page from `{0}` is refused; list its host in `allowed_hosts` to let it in")]
    Origin(String),
    #[error("`content-type: {0}` is what a form sends and nothing here takes; say `application/json`")]
    Form(String),
}

impl Foreign {
    pub fn status(&self) -> StatusCode {
        match self {
            Self::Host(_) => StatusCode::MISDIRECTED_REQUEST,
            Self::Origin(_) => StatusCode::FORBIDDEN,
            Self::Form(_) => StatusCode::UNSUPPORTED_MEDIA_TYPE,
        }
    }

    /// Name for metrics and the log.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Host(_) => "host",
            Self::Origin(_) => "origin",
            Self::Form(_) => "form",
        }
    }
}

/// Connection that a request came over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Way {
    /// A client over TLS has checked the name that it called by.
    pub is_plain: bool,
    /// Whether the connection comes from this machine.
    pub is_here: bool,
}

/// Checks a list of `allowed_hosts`: names or addresses without scheme, port and path; `*.` before a name allows all
/// below it, and `*` alone every one. The error says what is wrong with which entry.
pub fn check(allowed: &[String]) -> Result<(), String> {
    for entry in allowed {
        let name = entry.strip_prefix("*.").unwrap_or(entry);
        let is_fine = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
        let is_name = !name.is_empty() && name.bytes().all(is_fine);
        if !is_name && entry != "*" && name.parse::<IpAddr>().is_err() {
            return Err(format!(
                "`{entry}` must be a host's name without scheme, port and path, `*.` with one, or `*`"
            ));
        }
    }
    Ok(())
}

impl Hosts {
    /// `own`: names of this server. `allowed`: what an operator allows besides, as [`check`] takes it; pages from those
    /// hosts may ask, too.
    pub fn new(own: impl IntoIterator<Item = String>, allowed: &[String]) -> Self {
        let plain = |name: String| name.trim_end_matches('.').to_ascii_lowercase();
        Self {
            own: own.into_iter().map(plain).collect(),
            allowed: allowed.iter().cloned().map(plain).collect(),
            is_any_name: false,
        }
    }

    /// These hosts for a door at which a place in the network gives no right, so that any name will do.
    pub fn with_any_name(self) -> Self {
        Self { is_any_name: true, ..self }
    }

    /// Checks a request before anything is done for it.
    pub fn admit(&self, method: &Method, uri: &Uri, headers: &HeaderMap, way: Way) -> Result<(), Foreign> {
        let host = host(uri, headers)?;
        if let Some(host) = host.as_ref().filter(|_| way.is_plain && !self.is_any_name)
            && !self.is_ours(host.host(), way.is_here)
        {
            return Err(Foreign::Host(host.to_string()));
        }
        let is_read = [Method::GET, Method::HEAD, Method::OPTIONS].contains(method);
        let text =
            |name: &HeaderName| headers.get(name).map(|value| String::from_utf8_lossy(value.as_bytes()));
        let from = |address: &str| self.is_from(address, host.as_ref());
        if let Some(origin) = text(&header::ORIGIN) {
            return if from(&origin) { Ok(()) } else { Err(Foreign::Origin(origin.into_owned())) };
        }
        if let Some(site) = text(&FETCH_SITE) {
            // A link to here shows its page to the person who follows it, and to nobody else.
            let is_link = is_read && text(&FETCH_MODE).is_some_and(|mode| mode == "navigate");
            let is_own = site == "same-origin" || site == "none";
            return if is_own || is_link { Ok(()) } else { Err(Foreign::Origin(site.into_owned())) };
        }
        // A program, or a browser of the time before these headers.
        if is_read {
            return Ok(());
        }
        if let Some(page) = text(&header::REFERER).filter(|page| !from(page)) {
            return Err(Foreign::Origin(page.into_owned()));
        }
        let content = text(&header::CONTENT_TYPE).unwrap_or_default();
        let essence = content.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
        let is_browser = text(&header::USER_AGENT).is_some_and(|agent| agent.starts_with(BROWSER));
        // curl calls whatever it is given the first of these, so that this says something of a browser alone.
        let is_curls = essence == OF_FORMS[0] && !is_browser;
        if *method == Method::POST && OF_FORMS.contains(&&*essence) && !is_curls {
            return Err(Foreign::Form(essence));
        }
        Ok(())
    }

    fn is_ours(&self, host: &str, is_here: bool) -> bool {
        let name = host.trim_end_matches('.').to_ascii_lowercase();
        let address = name.strip_prefix('[').and_then(|name| name.strip_suffix(']')).unwrap_or(&name);
        // An address is no name that could be made to point elsewhere.
        if address.parse::<IpAddr>().is_ok() || self.own.contains(&name) || self.is_allowed(&name) {
            return true;
        }
        match name.rsplit_once('.') {
            None => name == PRIVATE[0] || !is_here,
            Some((_, last)) => last == PRIVATE[0] || !is_here && PRIVATE.contains(&last),
        }
    }

    fn is_allowed(&self, name: &str) -> bool {
        self.allowed.iter().any(|allowed| match allowed.strip_prefix('*') {
            Some(suffix) => name.ends_with(suffix),
            None => name == allowed,
        })
    }

    /// Whether a page at `address` is from here, or from a host that is allowed.
    fn is_from(&self, address: &str, host: Option<&Authority>) -> bool {
        let Some(page) = address.parse::<Uri>().ok().and_then(|uri| uri.authority().cloned()) else {
            return false;
        };
        host.is_some_and(|host| host.as_str().eq_ignore_ascii_case(page.as_str()))
            || self.is_allowed(&page.host().trim_matches(['[', ']']).to_ascii_lowercase())
    }
}

/// Whom a request is meant for; `None` if it does not say, as no browser does. One that says two things is refused.
fn host(uri: &Uri, headers: &HeaderMap) -> Result<Option<Authority>, Foreign> {
    let mut given = headers.get_all(header::HOST).iter();
    let (first, second) = (given.next(), given.next());
    if let Some(authority) = uri.authority() {
        return Ok(Some(authority.clone()));
    }
    let Some(value) = first else { return Ok(None) };
    let text = || String::from_utf8_lossy(value.as_bytes()).into_owned();
    match Authority::try_from(value.as_bytes()) {
        Ok(authority) if second.is_none() && !authority.as_str().contains('@') => Ok(Some(authority)),
        _ => Err(Foreign::Host(text())),
    }
}

#[cfg(test)]
mod tests;

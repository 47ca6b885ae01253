//! What the configuration and the environment say together: the configuration comes first.

use super::config::TracesConfig;

#[derive(Debug, PartialEq, Eq)]
pub(super) struct Settings {
    /// `None`: nothing is exported.
    pub(super) endpoint: Option<String>,
    /// `None`: the SDK finds it in the environment.
    pub(super) service_name: Option<String>,
}

impl Settings {
    pub(super) fn resolve(config: &TracesConfig, environment: impl Fn(&str) -> Option<String>) -> Self {
        let given = |name: &str| environment(name).filter(|value| !value.trim().is_empty());
        let endpoint = config.endpoint.clone().or_else(|| {
            given("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT").or_else(|| given("OTEL_EXPORTER_OTLP_ENDPOINT"))
        });
        let names = |attributes: String| {
            attributes
                .split(',')
                .any(|pair| pair.split('=').next().is_some_and(|key| key.trim() == "service.name"))
        };
        let is_named =
            given("OTEL_SERVICE_NAME").is_some() || given("OTEL_RESOURCE_ATTRIBUTES").is_some_and(names);
        let own = (!is_named).then(|| "millgate-cloud".to_owned());
        Self {
            endpoint: endpoint.filter(|endpoint| !endpoint.is_empty()),
            service_name: config.service_name.clone().or(own),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolve(endpoint: Option<&str>, name: Option<&str>, environment: &[(&str, &str)]) -> Settings {
        let own = |text: Option<&str>| text.map(str::to_owned);
        let config =
            TracesConfig { endpoint: own(endpoint), service_name: own(name), ..TracesConfig::default() };
        Settings::resolve(&config, |asked| {
            environment.iter().find(|(name, _)| *name == asked).map(|(_, value)| (*value).to_owned())
        })
    }

    #[test]
    fn the_environment_counts_where_the_configuration_is_silent() {
        let (all, traces) = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT");
        let endpoint = |given, environment: &[(&str, &str)]| resolve(given, None, environment).endpoint;
        assert_eq!(endpoint(None, &[]), None);
        assert_eq!(endpoint(None, &[(all, "http://a")]).as_deref(), Some("http://a"));
        assert_eq!(endpoint(None, &[(all, "http://a"), (traces, "http://b")]).as_deref(), Some("http://b"));
        assert_eq!(endpoint(Some("http://c"), &[(traces, "http://b")]).as_deref(), Some("http://c"));
        assert_eq!(endpoint(Some(""), &[(all, "http://a")]), None);
        assert_eq!(endpoint(None, &[(all, " ")]), None);

        let name = |given, environment: &[(&str, &str)]| resolve(None, given, environment).service_name;
        assert_eq!(name(None, &[]).as_deref(), Some("millgate-cloud"));
        assert_eq!(name(Some("x"), &[("OTEL_SERVICE_NAME", "y")]).as_deref(), Some("x"));
        assert_eq!(name(None, &[("OTEL_SERVICE_NAME", "y")]), None);
        assert_eq!(name(None, &[("OTEL_RESOURCE_ATTRIBUTES", "a=1, service.name=z")]), None);
        assert_eq!(name(None, &[("OTEL_RESOURCE_ATTRIBUTES", "a=1")]).as_deref(), Some("millgate-cloud"));
    }
}

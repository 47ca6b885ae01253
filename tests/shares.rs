//! Fair shares: what one tenant asks for takes nothing from another's share, and a rank is a right.

use std::time::Duration;

use millgate_cloud::config::TenantConfig;
use millgate_shared::proto::inference::ModelInferResponse;
use millgate_shared::proto::inference::infer_parameter::ParameterChoice;
use system_tests::enrolled::{TlsPool, tls_pool_with};
use system_tests::flooding::{Asker, CALLERS, agent_at, decided, flooded, in_turn};

/// An expert of the bundle that takes some milliseconds, so that a flood of it is one.
const MODEL: &str = "steel-l";
/// Time for an answer: many batches even on a busy machine, and much less than a flood lasts.
const TIMEOUT: Duration = Duration::from_secs(10);

async fn house() -> TlsPool {
    let tenants = ["acme", "beta"].map(TenantConfig::named).into_iter().collect();
    tls_pool_with(|config, _| {
        config.threads = 1;
        config.tenants = tenants;
    })
    .await
}

fn token(tls: &TlsPool, tenant: &str, priority: Option<u8>) -> String {
    tls.token(|token| {
        token.name = format!("{tenant}-{priority:?}");
        token.tenant = tenant.to_owned();
        token.priority = priority;
    })
}

async fn flood(tls: &TlsPool) -> Vec<Asker> {
    let token = token(tls, "beta", None);
    let one = Asker::new(tls, &token, MODEL, TIMEOUT).await.with_priority(1);
    vec![one; CALLERS]
}

fn granted(answer: &ModelInferResponse) -> Option<i64> {
    match answer.parameters.get("priority_granted")?.parameter_choice {
        Some(ParameterChoice::Int64Param(rank)) => Some(rank),
        _ => None,
    }
}

fn metric(tls: &TlsPool, series: &str) -> f64 {
    let page = page(tls);
    let line = page.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' ').map(str::to_owned));
    line.and_then(|value| value.parse().ok()).unwrap_or_else(|| panic!("no {series} in {page}"))
}

fn page(tls: &TlsPool) -> String {
    use std::io::{Read, Write};
    let address = tls.pool.metrics_addr();
    let mut stream = std::net::TcpStream::connect(address).unwrap();
    write!(stream, "GET /metrics HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n").unwrap();
    let mut page = String::new();
    stream.read_to_string(&mut page).unwrap();
    page
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_of_one_tenant_takes_nothing_from_another() {
    let tls = house().await;
    let flood = flood(&tls).await;
    let acme = Asker::new(&tls, &token(&tls, "acme", None), MODEL, TIMEOUT).await;
    let agent = agent_at(&tls, "acme", "cam-1", TIMEOUT).await;
    let (got, beta) = flooded(&flood, in_turn(&acme, 15)).await;
    assert_eq!((got.answered, got.asked), (15, 15), "{got:?}, beta {beta}");
    assert!(beta > 0, "what acme leaves is beta's");
    let (got, beta) = flooded(&flood, decided(&agent, 25)).await;
    assert_eq!((got.answered, got.asked), (25, 25), "{got:?}, beta {beta}");
    for tenant in ["acme", "beta"] {
        let of = |name: &str| metric(&tls, &format!("millgate_tenant_{name}{{tenant=\"{tenant}\"}}"));
        assert!(of("served_total") >= 15.0 && of("compute_seconds_total") > 0.0, "{tenant}");
    }
    assert!(metric(&tls, "millgate_tenant_priority_denied_total{tenant=\"beta\"}") >= 24.0);
    assert!(metric(&tls, "millgate_tenant_priority_denied_total{tenant=\"acme\"}") == 0.0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rank_is_granted_as_far_as_there_is_a_right_to_it() {
    let tls = house().await;
    for (right, asked, expected) in
        [(None, 1, Some(128)), (None, 200, None), (Some(100), 1, Some(100)), (Some(100), 100, None)]
    {
        let name = format!("{right:?}-{asked}");
        let token = tls.token(|token| {
            (token.name, token.tenant, token.priority) = (name, "acme".to_owned(), right);
        });
        let asker = Asker::new(&tls, &token, MODEL, TIMEOUT).await;
        assert_eq!(granted(&asker.ask().await.unwrap()), None, "no rank was asked for");
        let answer = asker.with_priority(asked).ask().await.unwrap();
        assert_eq!(granted(&answer), expected, "{right:?} {asked}");
    }
    assert!(metric(&tls, "millgate_tenant_priority_denied_total{tenant=\"acme\"}") == 2.0);
}

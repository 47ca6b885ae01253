//! Who got what under whose flood: one caller of a tenant and an agent of its device, alone and beside 24 callers of another
//! tenant who ask as fast as they are answered.
//!
//! `cargo bench -p system-tests --bench shares` prints the table of `docs/benchmarks.md`.

use std::io::Write;
use std::time::Duration;

use millgate_cloud::config::TenantConfig;
use system_tests::enrolled::tls_pool_with;
use system_tests::flooding::{Asker, CALLERS, Got, agent_at, decided, flooded, in_turn};

const QUESTIONS: usize = 100;
const DECISIONS: usize = 100;
/// What a line allows.
const TIMEOUT: Duration = Duration::from_millis(500);

fn main() {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    let mut out = std::io::stdout().lock();
    let mut print = |line: String| writeln!(out, "{line}").expect("standard output");
    print("| acme | beta's flood | in time | median ms | p99 ms | answers of beta meanwhile |".to_owned());
    print("|---|---|---|---|---|---|".to_owned());
    runtime.block_on(table(&mut print));
}

async fn table(print: &mut impl FnMut(String)) {
    let tenants: Vec<_> = ["acme", "beta"].map(TenantConfig::named).into();
    let tls = tls_pool_with(|config, _| config.tenants = tenants).await;
    let token =
        |tenant: &str| tls.token(|token| (token.name, token.tenant) = (tenant.to_owned(), tenant.to_owned()));
    let (of_acme, of_beta) = (token("acme"), token("beta"));
    let acme = Asker::new(&tls, &of_acme, "steel-l", TIMEOUT).await;
    let agent = agent_at(&tls, "acme", "cam-1", TIMEOUT).await;
    let mut floods: Vec<(&str, Vec<Asker>)> = vec![("none", Vec::new())];
    for (name, model, timeout, priority) in [
        ("the same model", "steel-l", 10_000, None),
        ("the same model, `priority` 1", "steel-l", 10_000, Some(1)),
        ("the same model, 100 ms of time", "steel-l", 100, None),
        ("another model", "pcb-l", 10_000, None),
    ] {
        let beta = Asker::new(&tls, &of_beta, model, Duration::from_millis(timeout)).await;
        let beta = match priority {
            Some(priority) => beta.with_priority(priority),
            None => beta,
        };
        floods.push((name, vec![beta; CALLERS]));
    }
    for (name, flood) in &floods {
        let (got, beta) = flooded(flood, in_turn(&acme, QUESTIONS)).await;
        print(row("one caller", name, &got, beta));
        let (got, beta) = flooded(flood, decided(&agent, DECISIONS)).await;
        print(row("an agent", name, &got, beta));
    }
}

fn row(who: &str, flood: &str, got: &Got, beta: usize) -> String {
    let ms = |time: Duration| time.as_secs_f64() * 1e3;
    let last = got.times.len() * 99 / 100;
    let p99 = got.times.get(last.min(got.times.len().saturating_sub(1))).copied().unwrap_or_default();
    format!(
        "| {who} | {flood} | {}/{} | {:.1} | {:.1} | {beta} |",
        got.answered,
        got.asked,
        ms(got.median()),
        ms(p99)
    )
}

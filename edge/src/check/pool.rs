//! The pool, by the handshake that the agent itself will make: connect, health, experts, one of them run.

use std::time::{Duration, Instant};

use millgate_shared::bundle::manifest::{ExpertInput, Manifest, Tier};
use millgate_shared::bundle::{Bundle, BundleDigest};
use millgate_shared::part::Part;
use millgate_shared::proto::v1::expert_service_client::ExpertServiceClient;
use millgate_shared::proto::{MAX_MESSAGE_BYTES, v1};
use millgate_shared::shutdown::Tasks;
use millgate_shared::wire::write_part;
use tonic::{Code, Status};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

use super::within;
use crate::finding::Item;
use crate::uplink::{Carrier, Pools, Refusal, Transport, Tried, try_each};

/// For each step.
const LIMIT: Duration = Duration::from_secs(5);
/// Round trips that are timed; the fastest counts.
const ROUND_TRIPS: usize = 5;

/// Why the rest was not tried.
type Stop = Box<Item>;

/// Each transport to each pool, then all of the rest over the best that works.
pub(super) async fn check(pools: &Pools, bundle: Option<&Bundle>) -> Vec<Item> {
    let tasks = Tasks::new();
    let mut items = Vec::new();
    match try_each(pools, LIMIT, &tasks).await {
        Ok(tried) => {
            for pool in tried.chunk_by(|a, b| a.pool == b.pool) {
                of_one(pool, bundle, &mut items).await;
            }
        }
        Err(refused) => {
            let message = format!("`offload.{}`: {refused}", refused.key);
            items.push(Item::failed("pool", message, "write it as https://host:port"));
        }
    }
    tasks.stop();
    items
}

async fn of_one(tried: &[Tried], bundle: Option<&Bundle>, items: &mut Vec<Item>) {
    let works = tried.iter().find_map(|tried| tried.result.as_ref().ok());
    for Tried { pool, transport, result, refusal } in tried {
        let name = format!("pool {}", transport.as_str());
        items.push(match result {
            Ok((_, listed, took)) => {
                let took = took.as_secs_f64() * 1e3;
                Item::ok(name, format!("{pool}: {} answers in {took:.2} ms", listed.node))
            }
            Err(error) if works.is_some() => {
                Item::warning(name, format!("{pool}: {error}"), "the agent will use what works")
            }
            Err(error) => {
                Item::failed(name, format!("{pool}: {error}"), advice_on(*refusal, *transport, tried))
            }
        });
    }
    if let (Some((carrier, listed, _)), Some(first)) = (works, tried.first())
        && let Err(stop) = steps(&first.pool.to_string(), carrier, listed, bundle, items).await
    {
        items.push(*stop);
    }
}

/// Where one way says why the pool is of no use, that holds for the others too.
fn advice_on(refusal: Option<Refusal>, transport: Transport, tried: &[Tried]) -> &'static str {
    let any = || tried.iter().find_map(|tried| tried.refusal);
    match (refusal.or_else(any), transport) {
        (Some(refusal), _) => refusal.advice(),
        (None, Transport::Quic) => "is UDP open to that port, and does the pool have TLS?",
        (None, Transport::Tcp) => {
            "is `millgate-cloud serve` running there, and has it loaded its models? is the port open in the firewall? \
             until then the agent decides alone"
        }
    }
}

async fn steps(
    url: &str,
    channel: &Carrier,
    listed: &v1::ListExpertsResponse,
    bundle: Option<&Bundle>,
    items: &mut Vec<Item>,
) -> Result<(), Stop> {
    items.push(health(url, channel).await?);
    let Some(bundle) = bundle else {
        let message = format!(
            "{} listed; not compared, since there is no bundle here to compare with",
            listed.experts.len()
        );
        items.push(Item::ok("pool experts", message));
        return Ok(());
    };
    items.push(same_bundle(bundle, listed)?);
    items.push(not_ready(bundle.manifest(), listed));
    items.extend(run_one(channel, bundle).await);
    Ok(())
}

/// Connection, health and round-trip time.
async fn health(url: &str, channel: &Carrier) -> Result<Item, Stop> {
    let mut client = HealthClient::new(channel.clone());
    let mut fastest = Duration::MAX;
    for _ in 0..ROUND_TRIPS {
        let started = Instant::now();
        let answer = call("pool", client.check(HealthCheckRequest::default())).await?;
        if answer.status() != ServingStatus::Serving {
            let message = format!("{url}: answers, but says {}", answer.status().as_str_name());
            return Err(Box::new(Item::failed(
                "pool",
                message,
                "it is starting or draining: try again, then see its log",
            )));
        }
        fastest = fastest.min(started.elapsed());
    }
    Ok(Item::ok("pool", format!("{url}: serving, round trip {:.2} ms", fastest.as_secs_f64() * 1e3)))
}

fn same_bundle(bundle: &Bundle, listed: &v1::ListExpertsResponse) -> Result<Item, Stop> {
    let (name, version) = (&listed.bundle_name, &listed.bundle_version);
    if listed.bundle_digest[..] == bundle.digest().as_bytes()[..] {
        return Ok(Item::ok("pool bundle", format!("{name} {version} on {}, the same", listed.node)));
    }
    let digest =
        BundleDigest::from_bytes(&listed.bundle_digest).map_or("no digest".to_owned(), |it| it.to_string());
    let message =
        format!("{name} {version} ({digest}) on {}, not the agent's {}", listed.node, bundle.digest());
    let advice = "give both the same bundle; until then the pool refuses what the agent asks";
    Err(Box::new(Item::failed("pool bundle", message, advice)))
}

fn not_ready(manifest: &Manifest, listed: &v1::ListExpertsResponse) -> Item {
    let is_ready = |name: &str| listed.experts.iter().any(|expert| expert.name == name && expert.ready);
    let wanted: Vec<&str> = (manifest.experts.iter())
        .filter(|expert| expert.tier == Tier::Cloud)
        .map(|expert| expert.name.as_str())
        .collect();
    let lacking: Vec<&str> = wanted.iter().copied().filter(|name| !is_ready(name)).collect();
    if lacking.is_empty() {
        return Item::ok("pool experts", format!("all {} cloud experts ready", wanted.len()));
    }
    Item::warning("pool experts", format!("not ready: {}", lacking.join(", ")), "see the pool's log")
}

/// A cloud expert on a golden sample; nothing if the bundle has none that fits.
async fn run_one(channel: &Carrier, bundle: &Bundle) -> Option<Item> {
    let manifest = bundle.manifest();
    let (expert, parts) = manifest.golden.decisions.iter().find_map(|golden| {
        let expert = manifest.experts.iter().find(|expert| {
            let has = |input: &ExpertInput| golden.parts.contains_key(&input.modality);
            expert.tier == Tier::Cloud && expert.inputs.iter().all(has)
        })?;
        let part = |(modality, file): (&String, &String)| {
            Some(write_part(Part::file(modality, bundle.read(file).ok()?)))
        };
        Some((expert.name.clone(), golden.parts.iter().map(part).collect::<Option<Vec<_>>>()?))
    })?;
    let request = v1::RunExpertsRequest {
        call_id: 1,
        bundle_digest: bundle.digest().as_bytes().to_vec().into(),
        experts: vec![expert.clone()],
        parts,
        timeout_us: LIMIT.as_micros() as u64,
        ..Default::default()
    };
    let mut client = ExpertServiceClient::new(channel.clone()).max_decoding_message_size(MAX_MESSAGE_BYTES);
    let started = Instant::now();
    let response = match call("pool run", client.run_experts(request)).await {
        Ok(response) => response,
        Err(stop) => return Some(*stop),
    };
    let took = started.elapsed();
    let answer = response.answers.into_iter().next();
    Some(match answer {
        Some(v1::ExpertAnswer { error: None, outputs, compute_us, .. }) if !outputs.is_empty() => Item::ok(
            "pool run",
            format!(
                "{expert} answered in {:.1} ms, {:.1} of them computing",
                took.as_secs_f64() * 1e3,
                compute_us as f64 / 1e3
            ),
        ),
        Some(answer) => {
            let error = answer.error.map_or("no output".to_owned(), |error| error.message);
            Item::failed("pool run", format!("{expert}: {error}"), "see the pool's log")
        }
        None => {
            Item::failed("pool run", format!("{expert}: no answer in the response"), "see the pool's log")
        }
    })
}

async fn call<T>(
    name: &str,
    answer: impl Future<Output = Result<tonic::Response<T>, Status>>,
) -> Result<T, Stop> {
    match within(LIMIT, answer).await {
        Some(Ok(response)) => Ok(response.into_inner()),
        Some(Err(status)) => {
            let message = format!("{:?}: {}", status.code(), status.message());
            Err(Box::new(Item::failed(name, message, advice(status.code()))))
        }
        None => {
            let advice = "it accepts connections but does not answer: is it the pool's gRPC port (8001)?";
            Err(Box::new(Item::failed(name, "no answer within 5 s", advice)))
        }
    }
}

fn advice(code: Code) -> &'static str {
    match code {
        Code::Unimplemented | Code::Internal | Code::Unknown => {
            "is it the pool's gRPC port (8001), of a matching version?"
        }
        Code::FailedPrecondition => "give both the same bundle",
        Code::ResourceExhausted => "the pool is overloaded: see its metrics",
        Code::Unauthenticated => Refusal::Unknown.advice(),
        Code::PermissionDenied => {
            "this device may not ask for that: see the pool's `[[tenants]]` and its log"
        }
        _ => "see the pool's log",
    }
}

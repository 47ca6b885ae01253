//! `ExpertService`: named experts on an agent's sample. Each expert of a call waits for itself, so that several use several
//! threads, and those of several agents share batches where that pays.

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use futures_util::stream::BoxStream;
use millgate_shared::bundle::manifest::Manifest;
use millgate_shared::index::ExpertIx;
use millgate_shared::proto::v1;
use millgate_shared::proto::v1::expert_service_server::ExpertService;
use millgate_shared::wire::write_tensor;
use tonic::{Request, Response, Status, Streaming};

use super::clock::Clock;
use super::digest::{self, Inherited};
use super::input::Input;
use super::{Api, deadline, reply, status, stream};
use crate::access::Caller;
use crate::failure::{Failure, Kind};
use crate::holding::{Account, Hold};
use crate::hosted::{Hosted, Ran};
use crate::metrics::RunResult;
use crate::serving::request::Call;

/// The output that every expert has, and that comes first.
const LOGITS: &str = "logits";

#[tonic::async_trait]
impl ExpertService for Api {
    async fn run_experts(
        &self,
        request: Request<v1::RunExpertsRequest>,
    ) -> Result<Response<v1::RunExpertsResponse>, Status> {
        let clock = self.clock(&request, timeout(request.get_ref()));
        let caller = super::caller(&request)?;
        let held = super::held(&request);
        let request = request.into_inner();
        let work = async {
            let hosted = self.pool.bundle_of(digest::read(&request.bundle_digest)?)?;
            run(self, &caller, &hosted, (request, held), clock).await
        };
        reply(self.answer("RunExperts", clock, work).await)
    }

    type RunExpertsStreamStream = BoxStream<'static, Result<v1::RunExpertsStreamResponse, Status>>;

    async fn run_experts_stream(
        &self,
        request: Request<Streaming<v1::RunExpertsRequest>>,
    ) -> Result<Response<Self::RunExpertsStreamStream>, Status> {
        use v1::run_experts_stream_response::Result as InBand;
        let whole = deadline::of(&request);
        let caller = super::caller(&request)?;
        let mut digest = Inherited::default();
        let (api, shut_out, account) = (self.clone(), caller.clone(), super::claimed(&request));
        let call = move |request: v1::RunExpertsRequest| {
            let held = account.as_ref().and_then(Account::next);
            let clock = Clock::new(Instant::now(), whole, timeout(&request), api.default_deadline);
            // The epoch that the call keeps, whatever is switched to meanwhile.
            let hosted = digest.read(&request.bundle_digest).and_then(|asked| api.pool.bundle_of(asked));
            let (api, caller) = (api.clone(), caller.clone());
            async move {
                let call_id = request.call_id;
                let work = async {
                    let hosted = hosted?;
                    run(&api, &caller, &hosted, (request, held), clock).await
                };
                let result = match api.answer("RunExpertsStream", clock, work).await {
                    Ok(response) => InBand::Response(response),
                    Err(failure) => InBand::Error(status::in_band(&failure)),
                };
                v1::RunExpertsStreamResponse { call_id, result: Some(result) }
            }
        };
        let requests = request.into_inner();
        let answers = stream::answers(requests, self.in_flight_per_stream, self.stop.clone(), call);
        // A device keeps its stream open and may ask for nothing for hours: that it is revoked is told at once.
        let end = async move { status::of(&shut_out.shut_out().await) };
        Ok(Response::new(stream::until(answers, end)))
    }

    async fn list_experts(
        &self,
        request: Request<v1::ListExpertsRequest>,
    ) -> Result<Response<v1::ListExpertsResponse>, Status> {
        let clock = self.clock(&request, None);
        let caller = super::caller(&request)?;
        let asked = request.into_inner().bundle_digest;
        let listed = async { super::listing::list(&self.pool, &asked, caller.rights()?.as_ref()) };
        reply(self.answer("ListExperts", clock, listed).await)
    }
}

fn timeout(request: &v1::RunExpertsRequest) -> Option<Duration> {
    (request.timeout_us > 0).then(|| Duration::from_micros(request.timeout_us))
}

async fn run(
    api: &Api,
    caller: &Caller,
    hosted: &Hosted,
    (request, held): (v1::RunExpertsRequest, Option<Hold>),
    clock: Clock,
) -> Result<v1::RunExpertsResponse, Failure> {
    let manifest = hosted.manifest();
    // Before it is said which of them are here.
    for expert in &request.experts {
        caller.may_run(Some(manifest), expert)?;
    }
    let experts = named(manifest, &request.experts)?;
    let input = Input::new(manifest, request.parts, request.tensors)?;
    let call = Call::new(caller.standing()?, clock.arrived, clock.deadline).keeping(super::kept(held));
    let inputs = input.inputs(hosted, &experts, api.pool.serving(), call.clone()).await?;
    let call = &call;
    let runs = experts.iter().zip(inputs).map(|(expert, inputs)| async move {
        let ran = match inputs {
            Ok(inputs) => hosted.expert(api.pool.serving(), *expert, inputs, call.clone()).await,
            Err(failure) => Err(failure),
        };
        count(api, &manifest.experts[*expert].name, &ran);
        ran
    });
    let answers = join_all(runs).await;
    if let Some(failure) = nothing_ran(&answers) {
        return Err(failure);
    }
    let answers = answers.into_iter().zip(request.experts).map(|(answer, expert)| match answer {
        Ok(ran) => v1::ExpertAnswer {
            expert,
            outputs: outputs(&ran, request.all_outputs),
            error: None,
            queue_us: ran.phases.queue.as_micros() as u64,
            compute_us: (ran.phases.join + ran.phases.compute + ran.phases.split).as_micros() as u64,
            batch: ran.phases.batch.try_into().unwrap_or(u32::MAX),
            engine: ran.served.choice.name(),
        },
        Err(failure) => {
            v1::ExpertAnswer { expert, error: Some(status::in_band(&failure)), ..v1::ExpertAnswer::default() }
        }
    });
    Ok(v1::RunExpertsResponse {
        call_id: request.call_id,
        answers: answers.collect(),
        node: api.pool.node().to_owned(),
    })
}

/// The experts that are asked for: known, at least one, each once.
fn named(manifest: &Manifest, names: &[String]) -> Result<Vec<ExpertIx>, Failure> {
    let mut experts = Vec::with_capacity(names.len().min(manifest.experts.len()));
    for (at, name) in names.iter().enumerate() {
        let expert = manifest.expert_index(name);
        let expert = expert.ok_or_else(|| Failure::UnknownExpert(name.clone()))?;
        if experts.contains(&expert) {
            return Err(Failure::field(format!("experts[{at}]"), format!("`{name}` stands twice")));
        }
        experts.push(expert);
    }
    match experts.is_empty() {
        true => Err(Failure::field("experts", "must name at least one expert")),
        false => Ok(experts),
    }
}

/// If no expert could even be run, the whole call failed, for the first one's reason. An expert that ran and failed is
/// answered beside the others.
fn nothing_ran(answers: &[Result<Ran, Failure>]) -> Option<Failure> {
    let mut failures = answers.iter().map(|answer| answer.as_ref().err());
    let none_ran = failures.all(|failure| failure.is_some_and(|failure| failure.kind() != Kind::Internal));
    answers.first().filter(|_| none_ran)?.as_ref().err().cloned()
}

fn count(api: &Api, name: &str, ran: &Result<Ran, Failure>) {
    match ran {
        Ok(ran) => {
            api.metrics.queued(ran.phases.queue);
            api.metrics.computed(name, ran.phases.compute);
            api.metrics.expert_run(name, RunResult::Ok);
        }
        Err(failure) => {
            if failure.kind() == Kind::Internal {
                tracing::warn!(expert = name, error = %failure, "expert failed");
            }
            api.metrics.expert_run(name, RunResult::of(failure));
        }
    }
}

/// Logits first, whatever the model's order.
fn outputs(ran: &Ran, all: bool) -> Vec<v1::Tensor> {
    let ports = ran.served.signature().outputs.iter().zip(&ran.outputs);
    let (logits, others): (Vec<_>, Vec<_>) = ports.partition(|(port, _)| port.name == LOGITS);
    let others = others.into_iter().filter(|_| all);
    logits.into_iter().chain(others).map(|(port, output)| write_tensor(&port.name, output)).collect()
}

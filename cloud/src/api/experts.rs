//! `ExpertService`: named experts on an agent's sample. Each expert of a call is a job of its own, so that several use
//! several threads.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use futures_util::stream::BoxStream;
use millgate_shared::proto::v1;
use millgate_shared::proto::v1::expert_service_server::ExpertService;
use millgate_shared::runner::Runner;
use millgate_shared::wire::write_tensor;
use millgate_shared::workers::Ticket;
use tonic::{Code, Request, Response, Status, Streaming};

use super::clock::Clock;
use super::digest::{Inherited, check};
use super::input::Input;
use super::{Api, deadline, reply, status, stream};
use crate::failure::Failure;
use crate::metrics::RunResult;

/// The output that every expert has, and that comes first.
const LOGITS: &str = "logits";

#[tonic::async_trait]
impl ExpertService for Api {
    async fn run_experts(
        &self,
        request: Request<v1::RunExpertsRequest>,
    ) -> Result<Response<v1::RunExpertsResponse>, Status> {
        let clock = self.clock(&request, timeout(request.get_ref()));
        let request = request.into_inner();
        let work = async {
            check(&request.bundle_digest, self.pool.digest())?;
            run(self, request, clock).await
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
        let mut digest = Inherited::default();
        let api = self.clone();
        let call = move |request: v1::RunExpertsRequest| {
            let clock = Clock::new(Instant::now(), whole, timeout(&request), api.default_deadline);
            let checked = digest.check(&request.bundle_digest, api.pool.digest());
            let api = api.clone();
            async move {
                let call_id = request.call_id;
                let work = async {
                    checked?;
                    run(&api, request, clock).await
                };
                let result = match api.answer("RunExpertsStream", clock, work).await {
                    Ok(response) => InBand::Response(response),
                    Err(failure) => InBand::Error(status::in_band(&failure)),
                };
                v1::RunExpertsStreamResponse { call_id, result: Some(result) }
            }
        };
        let requests = request.into_inner();
        Ok(Response::new(stream::answers(requests, self.in_flight_per_stream, self.stop.clone(), call)))
    }

    async fn list_experts(
        &self,
        request: Request<v1::ListExpertsRequest>,
    ) -> Result<Response<v1::ListExpertsResponse>, Status> {
        let clock = self.clock(&request, None);
        reply(
            self.answer("ListExperts", clock, std::future::ready(Ok(super::listing::list(&self.pool)))).await,
        )
    }
}

fn timeout(request: &v1::RunExpertsRequest) -> Option<Duration> {
    (request.timeout_us > 0).then(|| Duration::from_micros(request.timeout_us))
}

async fn run(
    api: &Api,
    request: v1::RunExpertsRequest,
    clock: Clock,
) -> Result<v1::RunExpertsResponse, Failure> {
    let experts = named(api, &request.experts)?;
    let input = Arc::new(Input::new(api.pool.manifest(), request.images, request.tensors)?);
    let runs = experts.iter().map(|expert| run_one(api, *expert, &input, request.all_outputs, clock));
    let answers = join_all(runs).await;
    if let Some(failure) = nothing_ran(&answers) {
        return Err(failure);
    }
    let answers = answers.into_iter().zip(request.experts).map(|(answer, expert)| match answer {
        Ok(ran) => v1::ExpertAnswer {
            expert,
            outputs: ran.outputs,
            error: None,
            queue_us: ran.queued.as_micros() as u64,
            compute_us: ran.compute.as_micros() as u64,
            batch: 1,
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

/// The experts that are asked for, by index: known, at least one, each once.
fn named(api: &Api, names: &[String]) -> Result<Vec<usize>, Failure> {
    let mut experts = Vec::with_capacity(names.len().min(api.pool.manifest().experts.len()));
    for (at, name) in names.iter().enumerate() {
        let expert = api.pool.manifest().expert_index(name);
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
    let none_ran = failures.all(|failure| failure.is_some_and(|failure| failure.code() != Code::Internal));
    answers.first().filter(|_| none_ran)?.as_ref().err().cloned()
}

/// What an expert made of a sample.
#[derive(Debug)]
struct Ran {
    outputs: Vec<v1::Tensor>,
    queued: Duration,
    compute: Duration,
}

async fn run_one(
    api: &Api,
    expert: usize,
    input: &Arc<Input>,
    all_outputs: bool,
    clock: Clock,
) -> Result<Ran, Failure> {
    let (pool, metrics) = (&api.pool, &api.metrics);
    let input = Arc::clone(input);
    let job = move |runner: &mut Runner, ticket: Ticket<'_>| {
        run_here(runner, ticket, expert, &input, all_outputs, clock)
    };
    let work = async {
        let ran = pool.workers().run(job).await;
        ran.map_err(|error| Failure::from_work(pool, error))?
    };
    let ran = clock.limit(work).await;
    let name = &pool.manifest().experts[expert].name;
    match &ran {
        Ok(ran) => {
            metrics.queued(ran.queued);
            metrics.computed(name, ran.compute);
            metrics.expert_run(name, RunResult::Ok);
        }
        Err(failure) => {
            if failure.code() == Code::Internal {
                tracing::warn!(expert = name, error = %failure, "expert failed");
            }
            metrics.expert_run(name, failure.run_result());
        }
    }
    ran
}

/// On a model thread. What was left in the queue past its deadline is not computed.
fn run_here(
    runner: &mut Runner,
    ticket: Ticket<'_>,
    expert: usize,
    input: &Input,
    all_outputs: bool,
    clock: Clock,
) -> Result<Ran, Failure> {
    if clock.is_over() {
        return Err(Failure::Deadline);
    }
    input.decode(runner)?;
    // Decoding may have taken a while, and another job's.
    if clock.is_over() || ticket.is_cancelled() {
        return Err(Failure::Deadline);
    }
    let started = Instant::now();
    let tensors = input.tensors(runner, expert)?;
    let outputs = runner.outputs(expert, tensors)?;
    let compute = started.elapsed();
    let ports = runner.models().expert(expert).map_or(&[][..], |model| model.outputs());
    let (mut first, mut others) = (Vec::new(), Vec::new());
    for (port, output) in ports.iter().zip(&outputs) {
        if port.name == LOGITS {
            first.push(write_tensor(LOGITS, output));
        } else if all_outputs {
            others.push(write_tensor(&port.name, output));
        }
    }
    first.append(&mut others);
    Ok(Ran { outputs: first, queued: ticket.queued, compute })
}

//! `infer`: one request through the common path.

use std::sync::Arc;
use std::time::Instant;

use axum::body::Body;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::Response;
use millgate_shared::proto::MAX_MESSAGE_BYTES;

use super::path::{Asker, Holder, Model};
use super::request::{self, Forms};
use super::{Rest, answer, body, encoding, status};
use crate::api::infer::Arrival;
use crate::failure::Failure;
use crate::heavy;
use crate::holding::{Account, Hold};
use crate::serving::request::{InferRequest, InferResponse};

/// A byte of JSON, or one that is to be decompressed, takes as long as so many of a raw tensor.
const TEXT_COST: usize = 16;

/// A byte of a tensor becomes so many of JSON at most: "false,".
const TEXT_LENGTH: usize = 6;

pub(super) async fn infer(
    State(rest): State<Rest>,
    Asker(caller): Asker,
    Holder(account): Holder,
    model: Model,
    headers: HeaderMap,
    request: Body,
) -> Response {
    let arrival = Arrival { method: "RestInfer", at: Instant::now(), deadline: None };
    let encoding = encoding::of_answer(&headers);
    let read = read(&rest, &account, model, &headers, request);
    let asks = account.clone();
    let write = |response: InferResponse, forms: Forms| async move {
        let text = response.outputs.iter().filter(|output| !forms.is_binary(&output.name));
        let text: usize = text.map(|output| output.array.values().size()).sum();
        let packed = if encoding.is_some() { response.size() } else { 0 };
        let room = asks.take((text.saturating_mul(TEXT_LENGTH) + packed) as u64)?;
        let cost = (text + packed).saturating_mul(TEXT_COST).max(response.size());
        let work = move || {
            // It is held also once nobody waits for the answer any more.
            let _room = room;
            answer::write(&response, &forms, encoding)
        };
        heavy::run(cost, work).await?
    };
    match rest.api.infer(arrival, &caller, read, write).await {
        Ok(response) => response,
        Err(failure) => status::refuse(&failure),
    }
}

async fn read(
    rest: &Rest,
    account: &Account,
    model: Model,
    headers: &HeaderMap,
    request: Body,
) -> Result<(InferRequest, Option<Arc<Hold>>, Forms), Failure> {
    let head_length = request::head_length(headers)?;
    let packed = encoding::of_request(headers)?;
    let (body, hold) = body::read(account, headers, request, MAX_MESSAGE_BYTES).await?;
    let text = if packed.is_some() { body.len() } else { head_length.unwrap_or(body.len()) };
    let cost = text.saturating_mul(TEXT_COST).max(body.len());
    let served = match head_length {
        Some(0) => Some(rest.api.pool().serving().find(&model.model, &model.version)?),
        _ => None,
    };
    let work = move || {
        let body = match packed {
            Some(encoding) => {
                let make_room = |length: usize| hold.grow_to_message(length as u64);
                encoding::unpack(encoding, &body, MAX_MESSAGE_BYTES, make_room)?
            }
            None => body,
        };
        let (request, forms) = match served {
            Some(served) => request::raw(&served, &body)?,
            None => request::read(model, head_length, body, &mut |bytes| hold.grow(bytes))?,
        };
        Ok((request, Some(Arc::new(hold)), forms))
    };
    heavy::run(cost, work).await?
}

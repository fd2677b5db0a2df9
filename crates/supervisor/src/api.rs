//! The REST API: what can be asked over the supervisor's socket.
//!
//! Handlers only translate: the engine decides and acts, and whoever asks is known to it by the socket that was used
//! ([`Caller`]).

use crate::engine::{Asked, Caller, Door, Request};
use axum::Json;
use axum::body::{Body, Bytes};
use axum::extract::{DefaultBodyLimit, Extension, Path, Query, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use cormus_client::{
    Action, Component, Composition, Event, Limits, LogLine, Policy, Problem, ProblemCode, Stats,
};
use futures_util::StreamExt;
use serde::{Deserialize, Serialize};
use std::convert::Infallible;
use tokio::sync::broadcast::Receiver;
use tokio_stream::wrappers::BroadcastStream;
use utoipa::{IntoParams, OpenApi};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

/// Most bytes of a request's body.
const BODY_LEN_MAX: usize = 1 << 20;

#[derive(OpenApi)]
#[openapi(info(
    title = "Cormus composition",
    description = "The supervisor of one composition, over its Unix socket. A component that was granted control asks the same about its own children alone."
))]
struct Document;

/// The routes, and the document that describes them.
fn routes() -> (axum::Router<Door>, utoipa::openapi::OpenApi) {
    OpenApiRouter::with_openapi(Document::openapi())
        .routes(routes!(composition, down))
        .routes(routes!(component, put_component, remove_component))
        .routes(routes!(act))
        .routes(routes!(limit))
        .routes(routes!(policy, set_policy))
        .routes(routes!(stats))
        .routes(routes!(config))
        .routes(routes!(events))
        .routes(routes!(logs))
        .split_for_parts()
}

/// The API for one caller.
pub(crate) fn router(door: Door, caller: Caller) -> axum::Router {
    let (router, document) = routes();
    router
        .route(
            "/v1/openapi.json",
            axum::routing::get(async || Json(document)),
        )
        .fallback(async || {
            Refused(Problem::new(
                ProblemCode::NotFound,
                "there is nothing at this path; /v1/openapi.json describes what there is",
            ))
        })
        .layer(Extension(caller))
        .layer(DefaultBodyLimit::max(BODY_LEN_MAX))
        .with_state(door)
}

/// The description of the API, OpenAPI 3.1, as JSON.
#[must_use]
pub fn openapi() -> String {
    let (_, document) = routes();
    // The document is a value of this program; it can be written.
    document.to_pretty_json().unwrap_or_default() + "\n"
}

/// A problem as an answer.
struct Refused(Problem);

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        let status = match self.0.code {
            ProblemCode::NotFound => StatusCode::NOT_FOUND,
            ProblemCode::Invalid => StatusCode::BAD_REQUEST,
            ProblemCode::Conflict => StatusCode::CONFLICT,
            ProblemCode::Forbidden => StatusCode::FORBIDDEN,
            ProblemCode::Failed => StatusCode::INTERNAL_SERVER_ERROR,
        };
        (status, Json(self.0)).into_response()
    }
}

type Answered<T> = Result<Json<T>, Refused>;

async fn ask<T>(
    door: &Door,
    caller: Caller,
    request: impl FnOnce(Asked<T>) -> Request,
) -> Answered<T> {
    let answered = door.ask(caller, request).await;
    answered.map(Json).map_err(Refused)
}

/// A body of this type, with a problem instead of the framework's own words.
fn body<T: for<'a> Deserialize<'a>>(bytes: &Bytes) -> Result<T, Refused> {
    serde_json::from_slice(bytes).map_err(|error| {
        Refused(Problem::new(
            ProblemCode::Invalid,
            format!("the request's body is not what is wanted here: {error}"),
        ))
    })
}

/// The composition as it is now.
#[utoipa::path(get, path = "/v1/composition", responses((status = 200, body = Composition)))]
async fn composition(
    State(door): State<Door>,
    Extension(caller): Extension<Caller>,
) -> Answered<Composition> {
    ask(&door, caller, Request::Composition).await
}

/// Ends the composition; the answer comes when all machines are gone. Asked again, it waits for the same.
#[utoipa::path(delete, path = "/v1/composition", responses((status = 200), (status = 403, body = Problem)))]
async fn down(State(door): State<Door>, Extension(caller): Extension<Caller>) -> Answered<()> {
    ask(&door, caller, Request::Down).await
}

/// One component as it is now.
#[utoipa::path(get, path = "/v1/components/{name}", responses((status = 200, body = Component), (status = 404, body = Problem)))]
async fn component(
    State(door): State<Door>,
    Extension(caller): Extension<Caller>,
    Path(name): Path<String>,
) -> Answered<Component> {
    ask(&door, caller, |asked| Request::Component(name, asked)).await
}

/// Adds a component, or replaces the one of this name. The body is its table in the manifest's form, as JSON. The same body twice
/// changes nothing the second time.
#[utoipa::path(put, path = "/v1/components/{name}", request_body = Object,
    responses((status = 200, body = Component), (status = 400, body = Problem), (status = 403, body = Problem)))]
async fn put_component(
    State(door): State<Door>,
    Extension(caller): Extension<Caller>,
    Path(name): Path<String>,
    bytes: Bytes,
) -> Answered<Component> {
    let table = body(&bytes)?;
    ask(&door, caller, |asked| Request::Put(name, table, asked)).await
}

/// Stops and removes a component; nothing happens if there is none.
#[utoipa::path(delete, path = "/v1/components/{name}", responses((status = 200), (status = 409, body = Problem)))]
async fn remove_component(
    State(door): State<Door>,
    Extension(caller): Extension<Caller>,
    Path(name): Path<String>,
) -> Answered<()> {
    ask(&door, caller, |asked| Request::Remove(name, asked)).await
}

/// Does something with a component. The answer comes when it has begun; what becomes of it is told by events.
#[utoipa::path(post, path = "/v1/components/{name}/actions", request_body = Action,
    responses((status = 200, body = Component), (status = 404, body = Problem), (status = 409, body = Problem)))]
async fn act(
    State(door): State<Door>,
    Extension(caller): Extension<Caller>,
    Path(name): Path<String>,
    bytes: Bytes,
) -> Answered<Component> {
    let action = body(&bytes)?;
    ask(&door, caller, |asked| Request::Act(name, action, asked)).await
}

/// Changes the limits of a running component.
#[utoipa::path(patch, path = "/v1/components/{name}/limits", request_body = Limits,
    responses((status = 200, body = Component), (status = 404, body = Problem), (status = 409, body = Problem)))]
async fn limit(
    State(door): State<Door>,
    Extension(caller): Extension<Caller>,
    Path(name): Path<String>,
    bytes: Bytes,
) -> Answered<Component> {
    let limits = body(&bytes)?;
    ask(&door, caller, |asked| Request::Limit(name, limits, asked)).await
}

/// The policy.
#[utoipa::path(get, path = "/v1/policy", responses((status = 200, body = Policy)))]
async fn policy(
    State(door): State<Door>,
    Extension(caller): Extension<Caller>,
) -> Answered<Policy> {
    ask(&door, caller, Request::Policy).await
}

/// Changes the policy. Connections that it forbids are refused from then on.
#[utoipa::path(put, path = "/v1/policy", request_body = Policy,
    responses((status = 200, body = Policy), (status = 400, body = Problem), (status = 403, body = Problem)))]
async fn set_policy(
    State(door): State<Door>,
    Extension(caller): Extension<Caller>,
    bytes: Bytes,
) -> Answered<Policy> {
    let policy = body(&bytes)?;
    ask(&door, caller, |asked| Request::SetPolicy(policy, asked)).await
}

/// Figures of all running components.
#[utoipa::path(get, path = "/v1/stats", responses((status = 200, body = Vec<Stats>)))]
async fn stats(
    State(door): State<Door>,
    Extension(caller): Extension<Caller>,
) -> Answered<Vec<Stats>> {
    ask(&door, caller, Request::Stats).await
}

/// The manifest as it is resolved.
#[utoipa::path(get, path = "/v1/config", responses((status = 200, body = Object)))]
async fn config(
    State(door): State<Door>,
    Extension(caller): Extension<Caller>,
) -> Answered<serde_json::Value> {
    ask(&door, caller, Request::Config).await
}

#[derive(Deserialize, IntoParams)]
struct Follow {
    /// Whether to go on until the composition ends.
    #[serde(default)]
    follow: bool,
    /// The only component that is wanted.
    component: Option<String>,
}

/// What has happened: a line of JSON for each event.
#[utoipa::path(get, path = "/v1/events", params(Follow),
    responses((status = 200, body = Event, content_type = "application/x-ndjson")))]
async fn events(
    State(door): State<Door>,
    Extension(caller): Extension<Caller>,
    Query(follow): Query<Follow>,
) -> Result<Response, Refused> {
    let seen = ask(&door, caller, Request::Seen).await?.0;
    let (before, after) = door.journal().listen();
    let wanted = move |event: &Event| {
        let component = event.component.as_deref();
        seen.sees(component)
            && follow
                .component
                .as_deref()
                .is_none_or(|it| component == Some(it))
    };
    Ok(lines(before, follow.follow.then_some(after), wanted))
}

/// What programs have written: a line of JSON for each line.
#[utoipa::path(get, path = "/v1/logs", params(Follow),
    responses((status = 200, body = LogLine, content_type = "application/x-ndjson")))]
async fn logs(
    State(door): State<Door>,
    Extension(caller): Extension<Caller>,
    Query(follow): Query<Follow>,
) -> Result<Response, Refused> {
    let seen = ask(&door, caller, Request::Seen).await?.0;
    let component = follow.component.as_deref();
    let (before, after) = door.logs().listen(component);
    let wanted = move |line: &LogLine| {
        let of = Some(line.component.as_str());
        seen.sees(of) && follow.component.as_deref().is_none_or(|it| of == Some(it))
    };
    Ok(lines(before, follow.follow.then_some(after), wanted))
}

/// Values as lines: those that are there, then those that come.
fn lines<T: Serialize + Clone + Send + 'static>(
    before: Vec<T>,
    after: Option<Receiver<T>>,
    wanted: impl Fn(&T) -> bool + Send + 'static,
) -> Response {
    let before = futures_util::stream::iter(before);
    // Who is too slow misses some.
    let after = futures_util::stream::iter(after.map(BroadcastStream::new))
        .flatten()
        .filter_map(async |value| value.ok());
    let lines = before.chain(after).filter_map(move |value| {
        let line = wanted(&value).then(|| line(&value));
        async move { line }
    });
    (
        [(header::CONTENT_TYPE, "application/x-ndjson")],
        Body::from_stream(lines.map(Ok::<_, Infallible>)),
    )
        .into_response()
}

fn line(value: &impl Serialize) -> Bytes {
    let mut line = serde_json::to_vec(value).unwrap_or_default();
    line.push(b'\n');
    line.into()
}

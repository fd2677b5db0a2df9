//! Asking a supervisor, from ordinary blocking code.

use crate::types::{
    Action, Component, Composition, Event, Limits, LogLine, Policy, Problem, ProblemCode, Stats,
};
use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::marker::PhantomData;
use std::path::{Path, PathBuf};
use tokio::net::UnixStream;
use tokio::runtime::{Builder, Runtime};

/// Why a supervisor gave no answer, or which problem it has.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// There is nobody at the socket.
    #[error("nobody answers at {path}; the composition does not run")]
    Gone {
        /// The socket.
        path: PathBuf,
        /// What the host says.
        source: std::io::Error,
    },
    /// The supervisor did not do it.
    #[error("{0}")]
    Problem(Problem),
    /// The connection ended before the answer did.
    #[error("the supervisor ended before it had answered")]
    Lost(#[from] hyper::Error),
    /// The host failed.
    #[error("cannot ask the supervisor")]
    Host(#[from] std::io::Error),
    /// The answer is not of this version.
    #[error("the supervisor gave an answer of another version of cormus")]
    Nonsense(#[from] serde_json::Error),
}

/// A supervisor's socket. Every request is a connection of its own.
#[derive(Clone, Debug)]
pub struct Client {
    path: PathBuf,
}

impl Client {
    /// The supervisor that listens at this socket.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into() }
    }

    /// The socket.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The composition as it is now.
    pub fn composition(&self) -> Result<Composition, ClientError> {
        self.get("/v1/composition")
    }

    /// Ends the composition, and returns when all its machines are gone.
    pub fn down(&self) -> Result<(), ClientError> {
        self.ask(Method::DELETE, "/v1/composition", None::<&()>)
    }

    /// One component as it is now.
    pub fn component(&self, name: &str) -> Result<Component, ClientError> {
        self.get(&format!("/v1/components/{name}"))
    }

    /// Adds a component, or replaces the one of this name, by its table in the manifest's form.
    pub fn put_component(
        &self,
        name: &str,
        table: &serde_json::Value,
    ) -> Result<Component, ClientError> {
        self.ask(Method::PUT, &format!("/v1/components/{name}"), Some(table))
    }

    /// Removes a component; nothing happens if there is none.
    pub fn remove_component(&self, name: &str) -> Result<(), ClientError> {
        self.ask(
            Method::DELETE,
            &format!("/v1/components/{name}"),
            None::<&()>,
        )
    }

    /// Does something with a component.
    pub fn act(&self, name: &str, action: &Action) -> Result<Component, ClientError> {
        self.ask(
            Method::POST,
            &format!("/v1/components/{name}/actions"),
            Some(action),
        )
    }

    /// Changes the limits of a running component.
    pub fn limit(&self, name: &str, limits: &Limits) -> Result<Component, ClientError> {
        self.ask(
            Method::PATCH,
            &format!("/v1/components/{name}/limits"),
            Some(limits),
        )
    }

    /// The policy.
    pub fn policy(&self) -> Result<Policy, ClientError> {
        self.get("/v1/policy")
    }

    /// Changes the policy; connections that it forbids are refused from then on.
    pub fn set_policy(&self, policy: &Policy) -> Result<Policy, ClientError> {
        self.ask(Method::PUT, "/v1/policy", Some(policy))
    }

    /// Figures of all running components.
    pub fn stats(&self) -> Result<Vec<Stats>, ClientError> {
        self.get("/v1/stats")
    }

    /// The manifest as it is resolved.
    pub fn config(&self) -> Result<serde_json::Value, ClientError> {
        self.get("/v1/config")
    }

    /// What has happened, and with `follow` what happens until the composition ends.
    pub fn events(&self, follow: bool) -> Result<Lines<Event>, ClientError> {
        self.lines(&format!("/v1/events?follow={follow}"))
    }

    /// What programs have written, of one component or of all.
    pub fn logs(
        &self,
        component: Option<&str>,
        follow: bool,
    ) -> Result<Lines<LogLine>, ClientError> {
        let of = component.map(|name| format!("&component={name}"));
        self.lines(&format!(
            "/v1/logs?follow={follow}{}",
            of.unwrap_or_default()
        ))
    }

    fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, ClientError> {
        self.ask(Method::GET, path, None::<&()>)
    }

    fn ask<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Option<&impl Serialize>,
    ) -> Result<T, ClientError> {
        runtime()?.block_on(async {
            let response = self.send(method, path, body).await?;
            let bytes = checked(response).await?.collect().await?.to_bytes();
            // What has no answer but that it is done has no body.
            let bytes: &[u8] = if bytes.is_empty() { b"null" } else { &bytes };
            Ok(serde_json::from_slice(bytes)?)
        })
    }

    fn lines<T>(&self, path: &str) -> Result<Lines<T>, ClientError> {
        let runtime = runtime()?;
        let body = runtime
            .block_on(async { checked(self.send(Method::GET, path, None::<&()>).await?).await })?;
        Ok(Lines {
            runtime,
            body,
            received: Vec::new(),
            item: PhantomData,
        })
    }

    async fn send(
        &self,
        method: Method,
        path: &str,
        body: Option<&impl Serialize>,
    ) -> Result<Response<Incoming>, ClientError> {
        let stream = UnixStream::connect(&self.path).await;
        let stream = stream.map_err(|source| ClientError::Gone {
            path: self.path.clone(),
            source,
        })?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        // It ends with the answer; what fails in it fails the answer too.
        tokio::spawn(connection);
        let body = body.map(serde_json::to_vec).transpose()?;
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("host", "cormus")
            .header("content-type", "application/json")
            .body(Full::new(Bytes::from(body.unwrap_or_default())))
            .map_err(std::io::Error::other)?;
        Ok(sender.send_request(request).await?)
    }
}

/// The body of an answer that is none of a problem.
async fn checked(response: Response<Incoming>) -> Result<Incoming, ClientError> {
    let status = response.status();
    if status.is_success() {
        return Ok(response.into_body());
    }
    let bytes = response.into_body().collect().await?.to_bytes();
    let problem = serde_json::from_slice(&bytes).unwrap_or_else(|_| {
        let code = match status {
            StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED => ProblemCode::NotFound,
            _ => ProblemCode::Invalid,
        };
        Problem::new(code, String::from_utf8_lossy(&bytes))
    });
    Err(ClientError::Problem(problem))
}

fn runtime() -> std::io::Result<Runtime> {
    Builder::new_current_thread().enable_io().build()
}

/// What a supervisor sends line by line, as it comes.
#[derive(Debug)]
pub struct Lines<T> {
    runtime: Runtime,
    body: Incoming,
    received: Vec<u8>,
    item: PhantomData<T>,
}

impl<T: DeserializeOwned> Lines<T> {
    fn take(&mut self) -> Option<Vec<u8>> {
        let end = self.received.iter().position(|byte| *byte == b'\n')?;
        Some(self.received.drain(..=end).collect())
    }
}

impl<T: DeserializeOwned> Iterator for Lines<T> {
    type Item = Result<T, ClientError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(line) = self.take() {
                return Some(serde_json::from_slice(&line).map_err(ClientError::from));
            }
            match self.runtime.block_on(self.body.frame())? {
                Ok(frame) => {
                    if let Some(data) = frame.data_ref() {
                        self.received.extend_from_slice(data);
                    }
                }
                Err(error) => return Some(Err(error.into())),
            }
        }
    }
}

//! The service's endpoints as typed calls: paths, call classes and time-outs of PROTOCOL 7.6 in one place.

use std::time::Duration;

use http::{HeaderName, HeaderValue};
use tinkex_http::{ApiRequest, ApiResponse, CallClass, HttpClient, HttpError, RetryPolicy};
use tinkex_types::{
    CancelFutureRequest, ClientConfig, ClientConfigRequest, CopyWeightsRequest, CopyWeightsResult,
    CreateSamplingSessionRequest, CreateSamplingSessionResponse, CreateSessionRequest, CreateSessionResponse,
    DynamicConfig, FinishSessionRequest, GetInfoRequest, GetSamplerResponse, Health, HeartbeatRequest,
    JoinSamplingSessionRequest, JoinSamplingSessionResponse, ModelInfo, PROTOCOL_SDK_VERSION,
    ServerCapabilities, TelemetryBatch, TelemetryResponse, UnloadModelRequest, WeightsInfo,
    WeightsInfoRequest,
};

use crate::Error;
use crate::credentials::Patience;

const CONTROL_TIMEOUT: Duration = Duration::from_secs(10);
/// Nobody waits for minutes to say goodbye.
const FINISH_DEADLINE: Duration = Duration::from_secs(30);
const CANCEL_TIMEOUT: Duration = Duration::from_secs(30);
const TELEMETRY_TIMEOUT: Duration = Duration::from_secs(5);

/// Marks a request as sent on behalf of a public method (PROTOCOL 5.1).
pub(crate) fn on_behalf_of(request: ApiRequest, method: &'static str) -> ApiRequest {
    const METHOD: HeaderName = HeaderName::from_static("x-sdk-method");
    const VERSION: HeaderName = HeaderName::from_static("x-sdk-version");
    request
        .header(METHOD, HeaderValue::from_static(method))
        .header(VERSION, HeaderValue::from_static(PROTOCOL_SDK_VERSION))
}

fn is_missing(error: &HttpError) -> bool {
    error.status() == Some(404)
}

/// Exchanges the credential of `http` for a token (PROTOCOL 3.4). The answer is left to the caller, since errors of a reader
/// may quote it.
pub(crate) async fn auth_token(http: &HttpClient, patience: Patience) -> Result<ApiResponse, HttpError> {
    const JSON: HeaderValue = HeaderValue::from_static("application/json");
    let request =
        ApiRequest::post_bytes("auth/token", "/api/v1/auth/token", "{}", JSON).class(CallClass::Control);
    let request = match patience {
        Patience::Patient(limit) => request.deadline(limit),
        Patience::OneAttempt => request.policy(RetryPolicy::none()),
    };
    http.send(&request).await
}

/// The start-up flags; none where the server has no such endpoint (OPEN_SERVERS, row 14).
pub(crate) async fn client_config(http: &HttpClient) -> Result<Option<ClientConfig>, Error> {
    let body = ClientConfigRequest { sdk_version: PROTOCOL_SDK_VERSION };
    let request = ApiRequest::post_json("client/config", "/api/v1/client/config", &body)?;
    match http.send(&request.class(CallClass::Control)).await {
        Ok(response) => Ok(Some(response.json()?)),
        Err(error) if is_missing(&error) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// The dynamic flags; none where the server has no such endpoint.
pub(crate) async fn dynamic_config(http: &HttpClient, retry: bool) -> Result<Option<DynamicConfig>, Error> {
    let body = ClientConfigRequest { sdk_version: PROTOCOL_SDK_VERSION };
    let request = ApiRequest::post_json("client/dynamic_config", "/api/v1/client/dynamic_config", &body)?
        .class(CallClass::Control)
        .timeout(CONTROL_TIMEOUT);
    let request = if retry { request } else { request.policy(RetryPolicy::none()) };
    match http.send(&request).await {
        Ok(response) => Ok(Some(response.json()?)),
        Err(error) if is_missing(&error) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

pub(crate) async fn create_session(
    http: &HttpClient,
    body: &CreateSessionRequest,
) -> Result<CreateSessionResponse, Error> {
    let request = ApiRequest::post_json("create_session", "/api/v1/create_session", body)?;
    let response = http.send(&request.class(CallClass::Control)).await?;
    let mut session: CreateSessionResponse = response.json()?;
    // They are logged.
    let messages = [&mut session.info_message, &mut session.warning_message, &mut session.error_message];
    for message in messages.into_iter().flatten() {
        *message = response.shown(std::mem::take(message));
    }
    Ok(session)
}

/// One sign of life: one attempt, never repeated.
pub(crate) async fn heartbeat(http: &HttpClient, session_id: &str) -> Result<(), Error> {
    let body = HeartbeatRequest::new(session_id);
    let request = ApiRequest::post_json("session_heartbeat", "/api/v1/session_heartbeat", &body)?
        .class(CallClass::Control)
        .timeout(CONTROL_TIMEOUT)
        .policy(RetryPolicy::none());
    http.send(&request).await?;
    Ok(())
}

pub(crate) async fn finish_session(
    http: &HttpClient,
    session_id: &str,
    body: &FinishSessionRequest,
) -> Result<(), Error> {
    let path = format!("/api/v1/sessions/{}/finish", escaped(session_id));
    let request = ApiRequest::post_json("sessions/finish", path, body)?;
    let request = on_behalf_of(request, "ServiceClient.close")
        .class(CallClass::Control)
        .deadline(Some(FINISH_DEADLINE));
    match http.send(&request).await {
        // Servers of the older protocol end a session by itself once its heartbeat stops.
        Err(error) if !matches!(error.status(), Some(404 | 405)) => Err(error.into()),
        _ => Ok(()),
    }
}

pub(crate) async fn create_sampling_session(
    http: &HttpClient,
    body: &CreateSamplingSessionRequest,
    method: &'static str,
) -> Result<CreateSamplingSessionResponse, Error> {
    let request = ApiRequest::post_json("create_sampling_session", "/api/v1/create_sampling_session", body)?;
    Ok(http.send(&on_behalf_of(request, method)).await?.json()?)
}

pub(crate) async fn get_sampler(
    http: &HttpClient,
    sampler_id: &str,
    method: &'static str,
) -> Result<GetSamplerResponse, Error> {
    let request = ApiRequest::get("samplers", format!("/api/v1/samplers/{}", escaped(sampler_id)));
    Ok(http.send(&on_behalf_of(request, method)).await?.json()?)
}

pub(crate) async fn get_info(
    http: &HttpClient,
    model_id: &str,
    method: &'static str,
) -> Result<ModelInfo, Error> {
    let body = GetInfoRequest::new(model_id);
    let request = ApiRequest::post_json("get_info", "/api/v1/get_info", &body)?;
    Ok(http.send(&on_behalf_of(request, method)).await?.json()?)
}

/// Frees a model that nobody will use; one attempt, whose result is not waited for.
pub(crate) async fn unload_model(
    http: &HttpClient,
    model_id: &str,
    method: &'static str,
) -> Result<(), Error> {
    let body = UnloadModelRequest::new(model_id);
    let request = ApiRequest::post_json("unload_model", "/api/v1/unload_model", &body)?
        .timeout(CONTROL_TIMEOUT)
        .policy(RetryPolicy::none());
    http.send(&on_behalf_of(request, method)).await?;
    Ok(())
}

pub(crate) async fn weights_info(
    http: &HttpClient,
    path: &str,
    method: &'static str,
) -> Result<WeightsInfo, Error> {
    let body = WeightsInfoRequest { tinker_path: path };
    let request = ApiRequest::post_json("weights_info", "/api/v1/weights_info", &body)?;
    Ok(http.send(&on_behalf_of(request, method)).await?.json()?)
}

/// Copies a checkpoint. One idempotency key over all attempts makes a repeated copy the same copy (REST C9).
pub(crate) async fn copy_weights(
    http: &HttpClient,
    body: &CopyWeightsRequest,
    access_token: Option<HeaderValue>,
) -> Result<CopyWeightsResult, Error> {
    const ACCESS_TOKEN: HeaderName = HeaderName::from_static("x-tinker-weights-access-token");
    let request = ApiRequest::post_json("copy_weights", "/api/v1/copy_weights", body)?;
    let mut request = on_behalf_of(request, "ServiceClient.copy_weights");
    if let Some(token) = access_token {
        request = request.header(ACCESS_TOKEN, token);
    }
    Ok(http.send(&request).await?.json()?)
}

pub(crate) async fn join_sampling_session(
    http: &HttpClient,
    sampling_session_id: &str,
) -> Result<JoinSamplingSessionResponse, Error> {
    let body = JoinSamplingSessionRequest { sampling_session_id, kind: "join_sampling_session" };
    let request = ApiRequest::post_json("join_sampling_session", "/api/v1/join_sampling_session", &body)?;
    Ok(http.send(&on_behalf_of(request, "SamplingClient.sample")).await?.json()?)
}

pub(crate) async fn cancel_future(http: &HttpClient, request_id: &str) -> Result<(), Error> {
    let request =
        ApiRequest::post_json("cancel_future", "/api/v1/cancel_future", &CancelFutureRequest { request_id })?;
    http.send(&request.timeout(CANCEL_TIMEOUT).deadline(Some(CANCEL_TIMEOUT))).await?;
    Ok(())
}

/// One batch of telemetry. On behalf of no public method, whatever is reported.
pub(crate) async fn telemetry(http: &HttpClient, batch: &TelemetryBatch) -> Result<TelemetryResponse, Error> {
    let request = ApiRequest::post_json("telemetry", "/api/v1/telemetry", batch)?
        .class(CallClass::Control)
        .timeout(TELEMETRY_TIMEOUT)
        .policy(RetryPolicy::default())
        .quiet();
    Ok(http.send(&request).await?.json()?)
}

pub(crate) async fn health(http: &HttpClient) -> Result<Health, Error> {
    let request = on_behalf_of(ApiRequest::get("healthz", "/api/v1/healthz"), "RestClient.health");
    Ok(http.send(&request).await?.json()?)
}

pub(crate) async fn capabilities(http: &HttpClient) -> Result<ServerCapabilities, Error> {
    let request = ApiRequest::get("get_server_capabilities", "/api/v1/get_server_capabilities");
    Ok(http.send(&on_behalf_of(request, "ServiceClient.get_server_capabilities")).await?.json()?)
}

/// An id as one path segment. Ids hold colons, which stay; anything that would end the segment is escaped.
fn escaped(id: &str) -> String {
    use std::fmt::Write as _;
    let mut out = String::with_capacity(id.len());
    for byte in id.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b':' | b'@' => {
                out.push(byte.into())
            }
            _ => {
                // Writing to a String cannot fail.
                let _ = write!(out, "%{byte:02X}");
            }
        }
    }
    out
}

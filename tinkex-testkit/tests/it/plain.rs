//! A plain transport: one connection a call, HTTP/1.1, driven by the call itself.

use bytes::Bytes;
use http_body_util::Full;
use hyper_util::rt::TokioIo;
use tinkex_http::{Body, Transport, TransportError, TransportErrorKind};
use tokio::net::TcpStream;

/// Opens a connection, makes the exchange, and closes it.
pub(crate) struct Plain;

impl Transport for Plain {
    async fn call(&self, request: http::Request<Bytes>) -> Result<http::Response<Body>, TransportError> {
        let authority = request.uri().authority().unwrap().to_string();
        let stream = TcpStream::connect(&authority)
            .await
            .map_err(|e| TransportError::new(TransportErrorKind::Connect, e.to_string()))?;
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(classify)?;
        let (mut parts, body) = request.into_parts();
        parts.headers.insert("host", authority.parse().unwrap());
        parts.uri = parts.uri.path_and_query().unwrap().as_str().parse().unwrap();
        // The connection ends with the response's body, or with this call if it is dropped before.
        let mut connection = Box::pin(connection);
        let mut response = Box::pin(sender.send_request(http::Request::from_parts(parts, Full::new(body))));
        let response = tokio::select! {
            response = response.as_mut() => response,
            ended = connection.as_mut() => match ended {
                Ok(()) => response.await,
                Err(error) => Err(error),
            },
        };
        let (parts, mut incoming) = response.map_err(classify)?.into_parts();
        let pieces = futures_util::stream::poll_fn(move |cx| {
            let _ = std::future::Future::poll(connection.as_mut(), cx);
            hyper::body::Body::poll_frame(std::pin::Pin::new(&mut incoming), cx)
                .map(|frame| frame.map(|f| f.map_err(classify).map(|f| f.into_data().unwrap_or_default())))
        });
        Ok(http::Response::from_parts(parts, Body::stream(pieces)))
    }
}

fn classify(error: hyper::Error) -> TransportError {
    let kind = if error.is_parse() { TransportErrorKind::Decode } else { TransportErrorKind::Interrupted };
    TransportError::new(kind, error.to_string())
}

//! The server to talk to: the embedded one, or one that was named.

use tinkex_client::{ByteTokenizer, Error, ServiceClient, ServiceClientBuilder, Tokenizer};
use tinkex_testkit::{FakeServer, SocketServer};

use super::{Arguments, Failure, Screen};

/// A server and a base model.
pub(crate) struct Connection {
    /// The base model.
    pub(crate) model: String,
    /// The tokenizer of the base model; one token per byte where there is no other.
    pub(crate) tokenizer: Box<dyn Tokenizer>,
    learning_rate: Option<f64>,
    measured: bool,
    url: Option<String>,
    socket: Option<SocketServer>,
}

impl Connection {
    pub(super) async fn open(
        arguments: Arguments,
        embedded: &FakeServer,
        screen: &Screen,
    ) -> Result<Self, Failure> {
        let Arguments { url, model, learning_rate, metrics, .. } = arguments;
        let socket = match &url {
            None => Some(embedded.listen().await?),
            Some(_) => None,
        };
        match (&socket, &url) {
            (Some(socket), _) => {
                screen.line(&format!("Talking to the embedded server at {}.", socket.url()));
                screen.line("Its model has one token per byte. --url names another server.\n");
            }
            (None, url) => screen.line(&format!("Talking to {}.\n", url.as_deref().unwrap_or_default())),
        }
        let tokenizer: Box<dyn Tokenizer> =
            if socket.is_some() { Box::new(ByteTokenizer) } else { tokenizer_of(&model, screen)? };
        Ok(Self { model, tokenizer, learning_rate, measured: metrics.is_some(), url, socket })
    }

    /// Whether the server is the embedded one.
    pub(crate) fn is_embedded(&self) -> bool {
        self.socket.is_some()
    }

    /// Whether somebody may be watching the metrics.
    pub(crate) fn is_measured(&self) -> bool {
        self.measured
    }

    /// The learning rate that was asked for, or else the example's own, which depends on
    /// [`is_embedded`](Self::is_embedded).
    pub(crate) fn learning_rate(&self, own: fn(bool) -> f64) -> f64 {
        self.learning_rate.unwrap_or_else(|| own(self.is_embedded()))
    }

    /// A new service client, with a session of its own.
    pub(crate) async fn service(&self) -> Result<ServiceClient, Error> {
        self.builder().build().await
    }

    /// The builder of one.
    pub(crate) fn builder(&self) -> ServiceClientBuilder {
        let builder = ServiceClient::builder();
        match (&self.socket, &self.url) {
            (Some(socket), _) => builder.base_url(socket.url()).api_key("tml-example"),
            (None, Some(url)) => builder.from_env().base_url(url),
            (None, None) => builder.from_env(),
        }
    }
}

#[cfg(feature = "tokenizers")]
fn tokenizer_of(model: &str, _screen: &Screen) -> Result<Box<dyn Tokenizer>, Failure> {
    let tokenizer = tinkex_client::HfTokenizer::for_model(model, None)?;
    // The examples join pieces of text; a start token in the middle would be out of place.
    Ok(Box::new(tokenizer.add_special_tokens(false)))
}

#[cfg(not(feature = "tokenizers"))]
fn tokenizer_of(model: &str, screen: &Screen) -> Result<Box<dyn Tokenizer>, Failure> {
    screen.line("Text goes out as one token per byte. A model with another vocabulary reads something else;");
    screen.line(&format!(
        "the feature `tokenizers` takes the tokenizer of {model} from the local hub cache.\n"
    ));
    Ok(Box::new(ByteTokenizer))
}

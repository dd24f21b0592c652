//! `forward_backward` and `forward` (PROTOCOL 12.1).

use super::super::refusal::Refusal;
use super::super::{Service, TrainingBody};
use super::decode::PassRequest;
use super::operation::Operation;
use crate::{Received, Reply};

impl Service {
    pub(crate) fn forward_backward(&self, request: &Received) -> Result<Reply, Refusal> {
        self.check_encoding(request)?;
        self.ordered(request, |request| self.pass(request, false))
    }

    /// The route of JSON clients; in protobuf it is a flag of `forward_backward`.
    pub(crate) fn forward(&self, request: &Received) -> Result<Reply, Refusal> {
        if self.dialect().training_bodies == TrainingBody::ProtobufOnly {
            return Err(Refusal::new(404, "Not Found"));
        }
        self.check_encoding(request)?;
        self.ordered(request, |request| self.pass(request, true))
    }

    /// Refuses an encoding the server does not read, before anything is noted of the request.
    fn check_encoding(&self, request: &Received) -> Result<(), Refusal> {
        match (self.dialect().training_bodies, request.is_protobuf()) {
            (TrainingBody::ProtobufOnly, false) => {
                let detail = format!("unsupported media type {:?}", request.content_type());
                Err(Refusal::new(415, detail))
            }
            (TrainingBody::JsonOnly, true) => Err(Refusal::new(500, "Internal Server Error")),
            _ => Ok(()),
        }
    }

    fn pass(&self, request: &Received, forward_route: bool) -> Result<Reply, Refusal> {
        let limit = self.options().max_context_length;
        let pass = if request.is_protobuf() {
            PassRequest::from_protobuf(request, limit)?
        } else {
            PassRequest::from_json(request, forward_route, limit)?
        };
        let unknown_loss = self.dialect().unknown_loss_status.filter(|_| !pass.is_known_loss());
        self.submit(&pass.model_id, pass.seq_id, pass.hash, |_| match (unknown_loss, pass.batch) {
            (Some(status), _) => {
                Err(Refusal::new(status, format!("loss_fn {:?} is not supported", pass.loss_fn)))
            }
            (None, Ok(batch)) => Ok(Operation::ForwardBackward(batch)),
            (None, Err(problem)) => Ok(Operation::Broken(problem)),
        })
    }
}

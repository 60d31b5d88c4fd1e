//! Connections for object_store. rclone's S3 server answers a request for a range with 200 and `Content-Range` instead
//! of 206, which object_store refuses. What the header says is compared with what was asked for, as always.

use object_store::ClientOptions;
use object_store::client::{
    HttpClient, HttpConnector, HttpError, HttpRequest, HttpResponse, HttpService, ReqwestConnector,
};
use reqwest::StatusCode;
use reqwest::header::CONTENT_RANGE;
use std::future::Future;
use std::pin::Pin;

/// Makes clients that take 200 with `Content-Range` for 206.
#[derive(Debug)]
pub(super) struct Connector;

impl HttpConnector for Connector {
    fn connect(&self, options: &ClientOptions) -> object_store::Result<HttpClient> {
        Ok(HttpClient::new(Service(ReqwestConnector::default().connect(options)?)))
    }
}

#[derive(Debug)]
struct Service(HttpClient);

impl HttpService for Service {
    // What the macro async_trait makes of an async method.
    fn call<'a, 'b>(
        &'a self,
        request: HttpRequest,
    ) -> Pin<Box<dyn Future<Output = Result<HttpResponse, HttpError>> + Send + 'b>>
    where
        'a: 'b,
        Self: 'b,
    {
        Box::pin(async move {
            let mut answer = self.0.execute(request).await?;
            if answer.status() == StatusCode::OK && answer.headers().contains_key(CONTENT_RANGE) {
                *answer.status_mut() = StatusCode::PARTIAL_CONTENT;
            }
            Ok(answer)
        })
    }
}

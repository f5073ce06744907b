//! Endpoints, as they are routed and described at once.

use super::answer::Answers;
use super::document;
use super::take::Takes;
use crate::access::endpoints::{self, Endpoint};
use crate::api::Api;
use axum::Router;
use axum::handler::Handler;
use axum::routing::{MethodFilter, on};
use schemars::SchemaGenerator;
use schemars::generate::SchemaSettings;
use serde_json::{Map, Value};

/// Where schemas are in the document.
const SCHEMAS: &str = "/components/schemas";

/// What is known of an endpoint.
#[derive(Debug)]
pub(in crate::api) struct Operation {
    /// What the table says of it.
    pub(super) endpoint: Endpoint,
    /// Its own parameters, those of its path aside: Parameter Objects.
    pub(in crate::api) parameters: Vec<Value>,
    /// The schema of its body.
    pub(super) body: Option<Value>,
    /// Response Objects by status.
    pub(super) answers: Map<String, Value>,
}

/// What serves an endpoint, as far as its types tell. `T` is the one that axum has for the same handler.
pub(in crate::api) trait Described<T> {
    /// Says it.
    fn describe(operation: &mut Operation, schemas: &mut SchemaGenerator);
}

macro_rules! described {
    ($($part:ident),*) => {
        impl<F, Fut, A, M, $($part,)*> Described<(M, $($part,)*)> for F
        where
            F: FnOnce($($part,)*) -> Fut,
            Fut: Future<Output = A>,
            A: Answers,
            $($part: Takes,)*
        {
            fn describe(operation: &mut Operation, schemas: &mut SchemaGenerator) {
                $($part::takes(operation, schemas);)*
                A::answers(operation, schemas);
            }
        }
    };
}
described!();
described!(A1);
described!(A1, A2);
described!(A1, A2, A3);
described!(A1, A2, A3, A4);
described!(A1, A2, A3, A4, A5);

/// Endpoints below `/api/v1`.
pub(in crate::api) struct Paths {
    router: Router<Api>,
    operations: Vec<Operation>,
    schemas: SchemaGenerator,
}

impl Paths {
    pub(in crate::api) fn new() -> Self {
        let mut settings = SchemaSettings::draft2020_12();
        settings.definitions_path = SCHEMAS.into();
        settings.meta_schema = None;
        Self {
            router: Router::new(),
            operations: Vec::new(),
            schemas: settings.into_generator(),
        }
    }

    pub(in crate::api) fn get<H, T>(self, path: &'static str, handler: H) -> Self
    where
        H: Handler<T, Api> + Described<T>,
        T: 'static,
    {
        self.on("GET", MethodFilter::GET, path, handler)
    }

    pub(in crate::api) fn post<H, T>(self, path: &'static str, handler: H) -> Self
    where
        H: Handler<T, Api> + Described<T>,
        T: 'static,
    {
        self.on("POST", MethodFilter::POST, path, handler)
    }

    pub(in crate::api) fn put<H, T>(self, path: &'static str, handler: H) -> Self
    where
        H: Handler<T, Api> + Described<T>,
        T: 'static,
    {
        self.on("PUT", MethodFilter::PUT, path, handler)
    }

    pub(in crate::api) fn delete<H, T>(self, path: &'static str, handler: H) -> Self
    where
        H: Handler<T, Api> + Described<T>,
        T: 'static,
    {
        self.on("DELETE", MethodFilter::DELETE, path, handler)
    }

    fn on<H, T>(
        mut self,
        method: &'static str,
        filter: MethodFilter,
        path: &'static str,
        handler: H,
    ) -> Self
    where
        H: Handler<T, Api> + Described<T>,
        T: 'static,
    {
        let mut operation = Operation {
            endpoint: Endpoint {
                method,
                path,
                ..endpoints::find(method, path)
            },
            parameters: Vec::new(),
            body: None,
            answers: Map::new(),
        };
        H::describe(&mut operation, &mut self.schemas);
        self.operations.push(operation);
        self.router = self.router.route(path, on(filter, handler));
        self
    }

    /// What serves them, and the document about them.
    pub(in crate::api) fn served(mut self) -> (Router<Api>, Value) {
        let document = document::document(&self.operations, &mut self.schemas);
        (self.router, document)
    }
}

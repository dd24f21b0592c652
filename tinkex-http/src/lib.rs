//! tinkex-http

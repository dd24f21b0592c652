//! tinkex-client

//! A small blob store embedded on Freehold.
//!
//! ```text
//! cargo run --release --example blob_store -- STORE put DIR
//! cargo run --release --example blob_store -- STORE list
//! ```
//!
//! `store.rs` is what a program would embed, `slot.rs` the shape of its index on the device. The rest is a command line
//! around it, and a mode that puts and deletes at random until it is killed.

mod error;
mod program;
mod slot;
mod store;
mod torture;

use std::process::ExitCode;

use error::Error;

#[tokio::main]
async fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match program::run(&arguments).await {
        Ok(()) => ExitCode::SUCCESS,
        // Whoever reads has seen enough.
        Err(Error::Print(error)) if error.kind() == std::io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("blob_store: {error}");
            ExitCode::from(if matches!(error, Error::Usage(_)) { 2 } else { 1 })
        }
    }
}

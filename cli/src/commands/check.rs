//! `mysimbdp check`: checks that the configuration is valid, and that its programs can be found.

use mysimbdp_config::Config;
use mysimbdp_model::exit;
use mysimbdp_platform::process;

use crate::error::CommandError;

pub fn run(config: &Config, file: &std::path::Path) -> Result<(), CommandError> {
    let mut missing = Vec::new();
    let root = config.layout.root();
    for client in config.clients.values() {
        let batch = client.apps.iter().map(|app| ("app", &app.name, &app.settings.command));
        let stream = client.streams.iter().map(|stream| ("stream", &stream.name, &stream.settings.command));
        for (kind, name, command) in batch.chain(stream) {
            if let Some(program) = command.first()
                && let Err(error) = process::find_program(program, root)
            {
                missing.push(format!(
                    "client {}: {kind} {name:?}: {}",
                    client.id,
                    mysimbdp_model::error_chain(&error)
                ));
            }
        }
    }
    if !missing.is_empty() {
        return Err(CommandError::new(exit::CONFIG, missing.join("\n")));
    }
    println!("{}: {} clients, no faults", file.display(), config.clients.len());
    Ok(())
}

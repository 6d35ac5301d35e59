//! `freehold audit export`: sealed events in the order of the chain.

use freehold_api::audit::ExportFormat;

use super::list::Choice;
use crate::Cx;
use crate::client::Request;
use crate::failure::Outcome;
use crate::value::wire_name;

#[derive(Debug, clap::Args)]
pub struct Export {
    /// jsonl, which `freehold audit verify --file` can walk, or csv
    #[arg(long, default_value = "jsonl", value_parser = wire_name::<ExportFormat>)]
    format: ExportFormat,
    #[command(flatten)]
    choice: Choice,
}

pub async fn run(args: Export, cx: &mut Cx) -> Outcome {
    let request = Request::get(&["audit", "export"]).query("format", Some(args.format.as_str()));
    let request = args.choice.ask(request, cx.around.now)?;
    let mut download = cx.client()?.download(request).await?;
    while let Some(bytes) = download.next().await? {
        cx.out.bytes(&bytes);
    }
    Ok(())
}

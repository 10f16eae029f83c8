//! A scripted (fake) MCP server on stdin and stdout with one tool, `ask`: called, it asks the client for a colour, by a form,
//! and returns what it was told.

use serde_json::{Value, json};
use std::io::{self, BufRead, Write};

fn say(message: &Value) -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "{message}")?;
    out.flush()
}

fn main() -> io::Result<()> {
    let mut calls: Vec<Value> = Vec::new();
    for line in io::stdin().lock().lines() {
        let Ok(message) = serde_json::from_str::<Value>(&line?) else { continue };
        let id = message["id"].clone();
        let result = match message["method"].as_str() {
            Some("initialize") => json!({
                "protocolVersion": message["params"]["protocolVersion"],
                "capabilities": {"tools": {}},
                "serverInfo": {"name": "scripted-mcp", "version": "1.0.0"},
            }),
            Some("tools/list") => json!({"tools": [{
                "name": "ask",
                "description": "asks the user for a colour",
                "inputSchema": {"type": "object", "properties": {"x": {"type": "string"}}},
            }]}),
            Some("tools/call") => {
                calls.push(id);
                say(&json!({"jsonrpc": "2.0", "id": 7000, "method": "elicitation/create", "params": {
                    "message": "What colour?",
                    "requestedSchema": {"type": "object", "properties": {"colour": {"type": "string"}}, "required": ["colour"]},
                }}))?;
                continue;
            }
            Some(_) if !id.is_null() => json!({}),
            Some(_) => continue,
            None => {
                // The answer to the question: the call gets it.
                let Some(call) = calls.pop() else { continue };
                let text = format!("told: {}", message["result"]);
                say(&json!({"jsonrpc": "2.0", "id": call, "result": {"content": [{"type": "text", "text": text}]}}))?;
                continue;
            }
        };
        say(&json!({"jsonrpc": "2.0", "id": id, "result": result}))?;
    }
    Ok(())
}

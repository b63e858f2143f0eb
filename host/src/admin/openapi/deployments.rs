//! The description of deployments, which are over HTTP alone.

use serde_json::{Value, json};

/// Describes the list of what is deployed.
pub(super) fn list() -> Value {
    json!({ "get": {
        "operationId": "deployments",
        "tags": ["read"],
        "description": "Scope `read`. The builds that are deployed, of the plugins that the token is for.",
        "responses": {
            "200": {
                "description": "Done.",
                "content": { "application/json": { "schema": { "type": "object" } } },
            },
            "default": { "$ref": "#/components/responses/Problem" },
        },
    } })
}

/// Describes the deployment of one plugin, whose name is the parameter `plugin` of the path.
pub(super) fn of_plugin(plugin: Value) -> Value {
    let problem = json!({ "$ref": "#/components/responses/Problem" });
    let done = json!({
        "description": "Done.",
        "content": { "application/json": { "schema": { "type": "object" } } },
    });
    let parameter = |name: &str, kind: &str, description: &str| {
        json!({
            "name": name, "in": "query", "schema": { "type": kind }, "description": description,
        })
    };
    let binary = json!({ "type": "string", "format": "binary" });
    json!({
        "put": {
            "operationId": "deploy",
            "tags": ["operate"],
            "description": "Scope `operate`. Deploys a build of a plugin on all nodes that run the \
                plugin; if none does, on all nodes that run plugins. If it cannot run on one of them, \
                nothing is changed.",
            "parameters": [
                plugin,
                parameter(
                    "build",
                    "string",
                    "The first digits of a build that this node keeps; empty: the one that ran before. \
                        With it, there is no body.",
                ),
                parameter("origin", "string", "Where the component was taken from."),
                parameter(
                    "rolling_ms",
                    "integer",
                    "The nodes change one after the other, and each runs the build for so many \
                        milliseconds before the next one does.",
                ),
                parameter(
                    "canary_percent",
                    "number",
                    "The share of the clients that the build is for, beside the one that runs: from 0 to \
                        100, in steps of 0.01. Without this and the next ones, `[rollout]` in the \
                        manifest counts.",
                ),
                parameter(
                    "canary_uid",
                    "string",
                    "A uid that the canary is for in any case. It can be given several times.",
                ),
                parameter(
                    "promote_after_ms",
                    "integer",
                    "When the canary takes over for all clients by itself, after its start.",
                ),
                parameter(
                    "max_p99_ratio",
                    "number",
                    "The canary is withdrawn if its messages take so many times as long as those of the \
                        other build, at the 99th percentile.",
                ),
            ],
            "requestBody": { "content": { "multipart/form-data": { "schema": {
                "type": "object",
                "properties": { "component": binary, "manifest": { "type": "string" } },
                "required": ["component"],
            } } } },
            "responses": { "200": done, "default": problem },
        },
        "delete": {
            "operationId": "undeploy",
            "tags": ["operate"],
            "description": "Scope `operate`. Withdraws the deployment of a plugin: each node runs what \
                its plugins folder has.",
            "parameters": [plugin],
            "responses": { "200": done, "default": problem },
        },
    })
}

//! The tables: everything about the Rust side that the schema does not say.

use crate::model::{Member, Type};

/// Methods of notifications that servers send and no schema lists, with their parameters.
pub(crate) const UNLISTED_NOTIFICATIONS: &[(&str, &str)] = &[
    ("rawResponse/completed", "RawResponseCompletedNotification"),
    ("rawResponseItem/completed", "RawResponseItemCompletedNotification"),
];

/// Notifications that need the experimental capability; the stable schema lists them all the same.
pub(crate) const EXPERIMENTAL_NOTIFICATIONS: &[&str] = &[
    "account/gatewayOAuth/changed",
    "autoApprovalReview/strictReviewRequired",
    "mcpServer/event/stream/notification",
    "process/",
    "project/changed",
    "thread/attachment/updated",
    "thread/environment/",
    "thread/prediction/updated",
    "thread/project/updated",
    "thread/queue/changed",
    "thread/readState/changed",
    "thread/realtime/",
    "thread/settings/updated",
    "turn/moderationMetadata",
];

/// Responses that are not named like their parameters.
pub(crate) const RESPONSES: &[(&str, &str)] = &[
    ("account/gatewayOAuth/cancel", "GatewayOAuthCancelResponse"),
    ("account/gatewayOAuth/login", "GatewayOAuthLoginResponse"),
    ("account/gatewayOAuth/read", "GatewayOAuthReadResponse"),
    ("account/logout", "LogoutAccountResponse"),
    ("account/workspaceMessages/read", "GetWorkspaceMessagesResponse"),
    ("config/batchWrite", "ConfigWriteResponse"),
    ("config/mcpServer/reload", "McpServerRefreshResponse"),
    ("config/value/write", "ConfigWriteResponse"),
    ("configRequirements/read", "ConfigRequirementsReadResponse"),
    ("externalAgentConfig/import/readHistories", "ExternalAgentConfigImportHistoriesReadResponse"),
    ("memory/reset", "MemoryResetResponse"),
    ("remoteControl/status/read", "RemoteControlStatusReadResponse"),
    ("rollout/compress", "RolloutCompressResponse"),
    ("windowsSandbox/readiness", "WindowsSandboxReadinessResponse"),
];

/// Members where `null` means something else than leaving them out.
pub(crate) const SETTABLE: &[(&str, &str)] = &[
    ("McpResourceReadTarget", "linkId"),
    ("ProcessSpawnParams", "outputBytesCap"),
    ("ProcessSpawnParams", "timeoutMs"),
    ("ThreadForkParams", "serviceTier"),
    ("ThreadGoalSetParams", "tokenBudget"),
    ("ThreadListParams", "projectId"),
    ("ThreadListParams", "sectionId"),
    ("ThreadMetadataGitInfoUpdateParams", "branch"),
    ("ThreadMetadataGitInfoUpdateParams", "originUrl"),
    ("ThreadMetadataGitInfoUpdateParams", "sha"),
    ("ThreadResumeParams", "serviceTier"),
    ("ThreadSectionMoveParams", "sectionId"),
    ("ThreadSectionUpdateParams", "appearance"),
    ("ThreadSettingsUpdateParams", "serviceTier"),
    ("ThreadStartParams", "serviceTier"),
    ("TurnSettingsUpdateParams", "serviceTier"),
    ("TurnStartParams", "serviceTier"),
];

/// Large members that would make every notification as large as they are.
pub(crate) const BOXED: &[(&str, &str)] = &[("ThreadStartedNotification", "thread")];

/// Experimental values of stable types, which the stable schema lists all the same, by the names that the server uses
/// when it refuses them.
pub(crate) const GATED_VALUES: &[(&str, &str, &str)] = &[
    ("AskForApproval", "granular", "askForApproval.granular"),
    ("LoginAccountParams", "amazonBedrockAccessKeys", "account/login/start.amazonBedrockAccessKeys"),
    ("LoginAccountParams", "chatgptAuthTokens", "account/login/start.chatgptAuthTokens"),
];

/// Types that are written by hand, or kept as JSON because nothing in them tells their forms apart.
pub(crate) fn hand_typed(name: &str) -> Option<Type> {
    Some(match name {
        "ForcedChatgptWorkspaceIds" | "ThreadListCwdFilter" => Type::OneOrMany,
        "FunctionCallOutputBody" | "ThreadItemsListCursor" => Type::Json,
        "ThreadId" => Type::Id("ThreadId"),
        _ => return None,
    })
}

/// Members that are identifiers: by the end of their name, or by the type whose `id` they are.
const IDS: &[(&str, &str)] = &[
    ("conversationId", "ThreadId"),
    ("forkedFromId", "ThreadId"),
    ("threadid", "ThreadId"),
    ("thread_id", "ThreadId"),
    ("turnid", "TurnId"),
    ("turn_id", "TurnId"),
    ("itemid", "ItemId"),
    ("item_id", "ItemId"),
];

/// The identifier that a member of text is, if it is one.
pub(crate) fn id_type(owner: &str, wire: &str, kind: &Type) -> Option<Type> {
    match kind {
        Type::Text => match (owner, wire) {
            ("Thread", "id") => Some(Type::Id("ThreadId")),
            ("Turn", "id") => Some(Type::Id("TurnId")),
            _ => {
                let lower = wire.to_lowercase();
                IDS.iter().find(|(end, _)| *end == wire || lower.ends_with(end)).map(|(_, id)| Type::Id(id))
            }
        },
        Type::List(inner) => {
            let one = wire.strip_suffix('s').unwrap_or(wire);
            Some(Type::List(Box::new(id_type(owner, one, inner)?)))
        }
        _ => None,
    }
}

/// Whether decoding may insist on a member at all.
pub(crate) fn is_id_or_status(member: &Member) -> bool {
    let wire = member.wire.as_str();
    match &member.kind {
        _ if wire == "status" => true,
        Type::Id(_) => true,
        Type::Text => wire == "id" || wire.ends_with("Id") || wire.ends_with("_id"),
        _ => false,
    }
}

/// What a variant's struct is called.
pub(crate) fn variant_struct(union: &str, word: &str) -> String {
    let owner = match union {
        "ThreadItem" => "Item",
        "McpServerElicitationRequestParams" => "ElicitationParams",
        other => other,
    };
    format!("{}{owner}", variant(word))
}

/// The files, with the methods whose types they hold, by the beginning of the method's name.
pub(crate) const AREAS: &[(&str, &[&str])] = &[
    ("account", &["account/", "attestation/", "userVerification/"]),
    ("command", &["command/", "process/", "windows/", "windowsSandbox/"]),
    (
        "config",
        &[
            "config/",
            "configRequirements/",
            "configWarning",
            "experimentalFeature/",
            "externalAgentConfig/",
            "memory/",
            "permissionProfile/",
        ],
    ),
    ("fs", &["fs/", "fuzzyFileSearch"]),
    ("item", &["applyPatchApproval", "autoApprovalReview/", "execCommandApproval", "hook/", "item/", "rawResponse"]),
    ("mcp", &["mcpServer/", "mcpServerStatus/"]),
    ("model", &["collaborationMode/", "model/", "modelProvider/"]),
    ("plugin", &["app/", "hooks/", "marketplace/", "plugin/", "skills/"]),
    ("project", &["environment/", "project/", "threadSection/"]),
    ("realtime", &["thread/realtime/"]),
    ("remote", &["remoteControl/"]),
    (
        "session",
        &[
            "currentTime/",
            "deprecationNotice",
            "feedback/",
            "guardianWarning",
            "initialize",
            "mock/",
            "rollout/",
            "server/",
            "serverRequest/",
            "warning",
        ],
    ),
    ("thread", &["thread/"]),
    ("turn", &["error", "review/", "turn/"]),
];

/// Where a type goes that several areas use, by the beginning of its name.
const HOMES: &[(&str, &str)] = &[
    ("App", "plugin"),
    ("Collab", "item"),
    ("Command", "item"),
    ("Config", "config"),
    ("Dynamic", "item"),
    ("FileSystem", "command"),
    ("Hook", "plugin"),
    ("Mcp", "mcp"),
    ("Model", "model"),
    ("Plugin", "plugin"),
    ("Reasoning", "model"),
    ("RemoteControl", "remote"),
    ("ThreadRealtime", "realtime"),
    ("ThreadItem", "item"),
    ("Thread", "thread"),
    ("Turn", "turn"),
    ("UserInput", "item"),
];

/// The area of a method.
pub(crate) fn area_of_method(method: &str) -> &'static str {
    let longest = AREAS
        .iter()
        .flat_map(|(area, prefixes)| prefixes.iter().map(move |prefix| (*area, *prefix)))
        .filter(|(_, prefix)| method.starts_with(prefix))
        .max_by_key(|(_, prefix)| prefix.len());
    longest.map_or("session", |(area, _)| area)
}

/// The area of a type that the given areas use.
pub(crate) fn area_of_type(name: &str, users: &std::collections::BTreeSet<&'static str>) -> &'static str {
    if users.len() == 1 {
        if let Some(area) = users.first() {
            return area;
        }
    }
    let home = HOMES.iter().find(|(prefix, _)| name.starts_with(prefix)).map(|(_, area)| *area);
    home.unwrap_or(if users.contains("thread") { "thread" } else { users.first().copied().unwrap_or("session") })
}

/// `turn/start` to `TurnStart`, `on-request` to `OnRequest`.
pub(crate) fn pascal(text: &str) -> String {
    let mut out = String::new();
    let mut upper = true;
    for symbol in text.chars() {
        if !symbol.is_ascii_alphanumeric() {
            upper = true;
        } else if upper {
            out.push(symbol.to_ascii_uppercase());
            upper = false;
        } else {
            out.push(symbol);
        }
    }
    out
}

/// `UserInput` to `userInput`.
pub(crate) fn camel(name: &str) -> String {
    let mut symbols = name.chars();
    symbols.next().map_or_else(String::new, |first| first.to_ascii_lowercase().to_string() + symbols.as_str())
}

/// The variant of a word; a word may begin with a digit, shout, or be one of those that an open enum needs itself.
pub(crate) fn variant(word: &str) -> String {
    // One union has both `openai/form` and `openaiForm`.
    if word == "openai/form" {
        return "OpenaiExtensionForm".to_owned();
    }
    let shouting = !word.chars().any(|symbol| symbol.is_ascii_lowercase());
    let name = if shouting { pascal(&word.to_lowercase()) } else { pascal(word) };
    match name.as_str() {
        "" => "Empty".to_owned(),
        "Self" => "Itself".to_owned(),
        "Unknown" => "NotKnown".to_owned(),
        "Undecodable" => "NotDecodable".to_owned(),
        _ if name.starts_with(|symbol: char| symbol.is_ascii_digit()) => format!("V{name}"),
        _ => name,
    }
}

/// `completedAt` to `completed_at`.
pub(crate) fn snake(wire: &str) -> String {
    let mut out = String::new();
    let symbols: Vec<char> = wire.chars().collect();
    for (at, symbol) in symbols.iter().enumerate() {
        let lower_before = at > 0 && symbols.get(at - 1).is_some_and(|before| !before.is_ascii_uppercase());
        let lower_after = symbols.get(at + 1).is_some_and(char::is_ascii_lowercase);
        if symbol.is_ascii_uppercase() && at > 0 && (lower_before || lower_after) {
            out.push('_');
        }
        out.push(if symbol.is_ascii_alphanumeric() { symbol.to_ascii_lowercase() } else { '_' });
    }
    while out.contains("__") {
        out = out.replace("__", "_");
    }
    let out = out.trim_matches('_');
    match out {
        "type" => "kind".to_owned(),
        "async" | "enum" | "fn" | "in" | "match" | "mod" | "move" | "ref" | "self" | "static" | "use" | "where"
        | "const" | "default" | "new" | "loop" | "struct" | "trait" | "override" => format!("{out}_"),
        _ => out.to_owned(),
    }
}

/// The name for an entry of a list.
pub(crate) fn singular(name: &str) -> String {
    name.strip_suffix('s').unwrap_or(name).to_owned()
}

/// The unit of a number, by the end of its name.
pub(crate) fn unit(wire: &str, kind: &Type) -> Option<&'static str> {
    const UNITS: &[(&str, &str)] = &[
        ("AtMs", "Unix milliseconds"),
        ("_at_ms", "Unix milliseconds"),
        ("At", "Unix seconds"),
        ("_at", "Unix seconds"),
        ("Ms", "milliseconds"),
        ("_ms", "milliseconds"),
        ("Secs", "seconds"),
        ("Sec", "seconds"),
        ("_sec", "seconds"),
        ("Seconds", "seconds"),
        ("Mins", "minutes"),
        ("Minutes", "minutes"),
        ("okens", "tokens"),
        ("ContextWindow", "tokens"),
        ("tokenBudget", "tokens"),
        ("Bytes", "bytes"),
        ("bytes", "bytes"),
        ("BytesCap", "bytes"),
        ("Days", "days"),
        ("Percent", "percent"),
    ];
    const TEXTS: &[(&str, &str)] = &[("Base64", "base64")];
    let table = match kind {
        Type::I32 | Type::I64 | Type::U16 | Type::U32 | Type::U64 | Type::F64 => UNITS,
        Type::Text => TEXTS,
        _ => return None,
    };
    table.iter().find(|(end, _)| wire.ends_with(end)).map(|(_, unit)| *unit)
}

/// What a file is about.
pub(crate) fn about(area: &str) -> &'static str {
    match area {
        "account" => "Logging in, plans, limits and usage of the account.",
        "command" => "Running commands and processes outside of turns; sandboxes of the platform.",
        "config" => "The server's configuration and what restricts it.",
        "fs" => "Files as the server sees them.",
        "item" => "What turns are made of, and what the server asks about them.",
        "mcp" => "MCP servers, their tools and resources, and what they ask.",
        "model" => "Models, their providers and modes of work.",
        "plugin" => "Plugins, apps, skills and hooks.",
        "project" => "Projects, sections of the thread list, and environments.",
        "realtime" => "Spoken conversations on a thread.",
        "remote" => "Remote control of this server.",
        "thread" => "Threads: starting, resuming, listing, changing and leaving them.",
        "turn" => "Turns: starting, steering, interrupting, and how they end.",
        _ => "The handshake, notices, and what belongs to the whole connection.",
    }
}

/// Our words for the types one meets every day.
pub(crate) fn own_words(name: &str) -> Option<&'static str> {
    Some(match name {
        "Account" => "Who is logged in, and how.",
        "AccountLoginCompletedNotification" => {
            "A login ended, well or not. Told apart by its `loginId`; none belongs to a key or token."
        }
        "AccountRateLimitsUpdatedNotification" => {
            "What is left of the account's limits. Belongs to the connection, though it comes during turns."
        }
        "ActivePermissionProfile" => "The permission profile that a thread runs under.",
        "AgentMessageDeltaNotification" => {
            "More text of a message that the agent is writing. Not the whole truth: the completed item is."
        }
        "AgentMessageItem" => {
            "What the agent says. The last one with the phase of a final answer is the result of a turn."
        }
        "ApprovalsReviewer" => "Who answers when the agent asks.",
        "AskForApproval" => "When the agent must ask before it acts.",
        "ClientInfo" => {
            "Who speaks: the name and version of the client, which the server passes on to the model's provider."
        }
        "CodexErrorInfo" => "The kind of a failure, for programs.",
        "CommandExecParams" => "One command outside of any turn, in the server's default sandbox.",
        "CommandExecutionApprovalDecision" => "Whether a command may run.",
        "CommandExecutionItem" => "A command that the agent runs.",
        "CommandExecutionOutputDeltaNotification" => {
            "More output of a command. May lack the beginning, which the completed item has."
        }
        "CommandExecutionRequestApprovalParams" => {
            "The agent wants to run a command that its settings do not allow it."
        }
        "CommandExecutionStatus" => "How a command stands. A non-zero exit code is `failed`, a refusal `declined`.",
        "ContextCompactionItem" => "The history was shortened to fit the model.",
        "DynamicToolCallItem" => "A call of a tool that the client offered.",
        "DynamicToolCallParams" => "The agent calls a tool that the client offered.",
        "DynamicToolCallResponse" => "What the client's tool gave.",
        "DynamicToolSpec" => "A tool, or a group of them, that the client offers the agent.",
        "ErrorNotification" => "Something went wrong in a turn. With `willRetry` it goes on.",
        "FileChangeApprovalDecision" => "Whether files may be changed.",
        "FileChangeItem" => "Changes to files that the agent makes.",
        "FileChangeRequestApprovalParams" => "The agent wants to change files where its settings do not allow it.",
        "FileUpdateChange" => "The change to one file: its path, its kind, and the new content or a diff.",
        "GitInfo" => "The commit, branch and origin that a thread was started on.",
        "InitializeCapabilities" => {
            "What the client can do and wants. The experimental part of the protocol is opened here."
        }
        "InitializeParams" => "The first request on a connection.",
        "InitializeResponse" => {
            "Who answers. The server's version is in `userAgent`, between the first slash and the following \
             space."
        }
        "ItemCompletedNotification" => "An item is done; this is its final form, whatever the deltas said.",
        "ItemStartedNotification" => "An item begins. Not every item that begins is completed.",
        "LoginAccountParams" => "A login, by the way it is done.",
        "McpServerElicitationRequestParams" => "An MCP server asks the user something, through a form or a page.",
        "McpElicitationPrimitiveSchema" => {
            "One field of a form. `type` says what it takes; `enum`, `oneOf` and `items` say that it is a choice."
        }
        "McpElicitationSchema" => "A form that an MCP server wants filled in.",
        "McpToolCallItem" => "A call of an MCP server's tool.",
        "MessagePhase" => "Whether a message is on the way to the answer, a part of it, or all of it.",
        "Model" => "A model that can be chosen.",
        "PermissionsRequestApprovalParams" => "The agent asks for more permissions.",
        "PlanItem" => "What the agent plans to do.",
        "RateLimitSnapshot" => "What is left of a limit.",
        "RateLimitWindow" => "How much of a limit is used up, and when it is new again.",
        "ReasoningItem" => "What the agent thinks, as far as it is shown.",
        "ReviewStartParams" => "A review, which runs as a turn.",
        "SandboxMode" => "What commands may touch, in one word.",
        "SandboxPolicy" => "What commands may touch, in full.",
        "ServerRequestResolvedNotification" => "A request of the server needs no answer any more.",
        "SessionSource" => "What started a thread.",
        "TextUserInput" => "Plain text.",
        "Thread" => "A conversation with the agent, with its history and settings.",
        "ThreadForkParams" => "A new thread with the history of another. Copied turns keep their ids.",
        "ThreadGoal" => "What a thread works towards by itself, turn after turn.",
        "ThreadItem" => "One thing that happened in a turn: a message, a command, a file change, a tool call.",
        "ThreadListParams" => {
            "Stored threads, a page at a time. Page by `updated_at`: the default order loses threads of one \
             second."
        }
        "ThreadReadParams" => "A thread, loaded or stored, without taking part in it.",
        "ThreadResumeParams" => {
            "Loads a stored thread, or takes part in a loaded one, whose settings then stay as they are."
        }
        "ThreadRevertParams" => "Drops a turn and all later ones.",
        "ThreadStartParams" => "A new thread. All of it is optional.",
        "ThreadStartResponse" => "The thread and the settings in force.",
        "ThreadStatus" => "Whether a thread is loaded, at work or broken.",
        "ThreadStatusChangedNotification" => "A thread came to work, to rest, or to grief. Sent to every connection.",
        "ThreadTokenUsage" => "What a thread has used: in total, and for the last request to the model.",
        "ThreadTokenUsageUpdatedNotification" => {
            "Tokens used; one for each request to the model, so several in a turn."
        }
        "ThreadUnsubscribeParams" => "Hear no more of a thread, not even of the end of a turn that runs.",
        "TokenUsageBreakdown" => "Tokens by kind.",
        "ToolRequestUserInputParams" => "The agent has questions to the user.",
        "ToolRequestUserInputResponse" => "The user's answers, by the ids of the questions.",
        "Turn" => "One unit of work on a thread, from an input to its end.",
        "TurnCompletedNotification" => "A turn is over, for better or worse.",
        "TurnDiffUpdatedNotification" => "All that the turn has changed so far, as one diff.",
        "TurnError" => "Why a turn failed.",
        "TurnInterruptParams" => "Stops a turn that runs.",
        "TurnPlanUpdatedNotification" => "The steps of the agent's plan, and how far it is.",
        "TurnStartParams" => {
            "Input for the agent. Settings given here stay with the thread, all but `outputSchema` and \
             `serviceTierForTurn`. On a thread at work the input joins the turn that runs."
        }
        "TurnStartResponse" => "The turn that took the input; a known one if it joined that.",
        "TurnStartedNotification" => "A turn runs. May come before the answer to the request that started it.",
        "TurnStatus" => "How a turn stands. Only `completed` is success.",
        "TurnSteerParams" => "More input for a turn that runs.",
        "UserInput" => "One part of what the user says: text, an image, a skill.",
        "UserMessageItem" => "What the user said.",
        "WarningNotification" => "Something that a human should read.",
        "WebSearchItem" => "A search of the web.",
        _ => return None,
    })
}

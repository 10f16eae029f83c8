// What each runtime is put through. Included once for each; a file of scenarios is a module.

mod basics {
    use super::*;
    include!("scripted/basics.rs");
}
mod cuts {
    use super::*;
    include!("scripted/cuts.rs");
}
mod drift {
    use super::*;
    include!("scripted/drift.rs");
}
mod faults {
    use super::*;
    include!("scripted/faults.rs");
}
mod accounts {
    use super::*;
    include!("scripted/accounts.rs");
}
mod nested {
    use super::*;
    include!("scripted/nested.rs");
}
mod policies {
    use super::*;
    include!("scripted/policies.rs");
}
mod record {
    use super::*;
    include!("scripted/record.rs");
}
mod replies {
    use super::*;
    include!("scripted/replies.rs");
}
mod requests {
    use super::*;
    include!("scripted/requests.rs");
}
mod sandbox {
    use super::*;
    include!("scripted/sandbox.rs");
}
mod session {
    use super::*;
    include!("scripted/session.rs");
}
mod slow {
    use super::*;
    include!("scripted/slow.rs");
}
mod threads {
    use super::*;
    include!("scripted/threads.rs");
}
mod turn_set {
    use super::*;
    include!("scripted/turn_set.rs");
}
mod peers {
    use super::*;
    include!("scripted/peers.rs");
}
mod tree {
    use super::*;
    include!("scripted/tree.rs");
}
mod turns {
    use super::*;
    include!("scripted/turns.rs");
}
mod real {
    use super::*;
    mod basics {
        use super::*;
        include!("real/basics.rs");
    }
    mod accounts {
        use super::*;
        include!("real/accounts.rs");
    }
    mod record {
        use super::*;
        include!("real/record.rs");
    }
    mod requests {
        use super::*;
        include!("real/requests.rs");
    }
    mod results {
        use super::*;
        include!("real/results.rs");
    }
    mod sandbox {
        use super::*;
        include!("real/sandbox.rs");
    }
    mod session {
        use super::*;
        include!("real/session.rs");
    }
    mod threads {
        use super::*;
        include!("real/threads.rs");
    }
    mod tree {
        use super::*;
        include!("real/tree.rs");
    }
    mod turns {
        use super::*;
        include!("real/turns.rs");
    }
}

/** Motion's engine, loaded after the first paint; until then elements stand where they end up. */
export { domAnimation as default } from "motion/react";

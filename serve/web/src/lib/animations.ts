/** Motion's engine, loaded after the first paint; until then elements stand where they end up. */
export { domMin as default } from "motion/react";

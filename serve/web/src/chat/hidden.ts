/** The server's ids of messages that are off the page and about to go from the server. */
export const hiddenMessages = new Set<string>();
